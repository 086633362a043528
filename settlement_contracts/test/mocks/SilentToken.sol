// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice A token of the old kind, whose transfers return nothing.
contract SilentToken {
    uint8 public immutable decimals;
    mapping(address holder => uint256) public balanceOf;

    constructor(uint8 decimals_) {
        decimals = decimals_;
    }

    function mint(address to, uint256 amount) external {
        balanceOf[to] += amount;
    }

    function transfer(address to, uint256 amount) external {
        balanceOf[msg.sender] -= amount;
        balanceOf[to] += amount;
    }

    function transferFrom(address from, address to, uint256 amount) external {
        balanceOf[from] -= amount;
        balanceOf[to] += amount;
    }
}
