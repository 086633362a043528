// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ICollateralVault} from "../../src/interfaces/ICollateralVault.sol";

/// @notice A token that calls back into the vault during a transfer, and passes on how that went.
contract ReentrantToken is ERC20("Reentrant", "RE") {
    ICollateralVault private _vault;
    bytes private _call;

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function attack(ICollateralVault vault, bytes calldata call_) external {
        _vault = vault;
        _call = call_;
    }

    function _update(address from, address to, uint256 amount) internal override {
        super._update(from, to, amount);
        if (address(_vault) == address(0)) return;
        (bool done, bytes memory answer) = address(_vault).call(_call);
        if (done) return;
        assembly ("memory-safe") {
            revert(add(answer, 0x20), mload(answer))
        }
    }
}
