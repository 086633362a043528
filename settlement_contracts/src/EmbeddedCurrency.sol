// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";
import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @title Play money for embedded and test chains
/// @notice An ERC-20 with four decimals, so that one unit is a ten-thousandth. It is worth nothing: whoever holds
/// MINTER_ROLE makes as much as they like.
contract EmbeddedCurrency is ERC20, AccessControl {
    /// @notice Who makes money.
    bytes32 public constant MINTER_ROLE = keccak256("MINTER_ROLE");

    constructor(string memory name_, string memory symbol_, address admin) ERC20(name_, symbol_) {
        _grantRole(DEFAULT_ADMIN_ROLE, admin);
        _grantRole(MINTER_ROLE, admin);
    }

    /// @notice Makes `amount` (ten-thousandths) for `to`. Only for MINTER_ROLE.
    function mint(address to, uint256 amount) external onlyRole(MINTER_ROLE) {
        _mint(to, amount);
    }

    /// @notice Four: one unit is a ten-thousandth of the currency unit.
    function decimals() public pure override returns (uint8) {
        return 4;
    }
}
