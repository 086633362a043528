// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {EmbeddedCurrency} from "../../src/EmbeddedCurrency.sol";
import {Test} from "../base/Test.sol";

contract MintTest is Test {
    function test_OneUnitIsATenThousandth() public {
        EmbeddedCurrency currency = new EmbeddedCurrency("Embedded euro", "EUR", address(this));

        currency.mint(address(7), 10_000);

        assertEq(currency.balanceOf(address(7)), 10 ** currency.decimals(), "one euro");
    }
}
