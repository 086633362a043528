// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IBatteryPassport} from "../../src/interfaces/IBatteryPassport.sol";
import {Passports} from "../base/Passports.sol";

contract TransferCustodyTest is Passports {
    function test_BothSignAndTheNewCustodianAppends() public {
        _issue(1, 1);
        _issue(2, 1);
        bytes24 head = _chained(
            passports.passport(2).head,
            2,
            IBatteryPassport.Kind.OWNERSHIP,
            IBatteryPassport.Status.ORIGINAL,
            NOW,
            _account(2),
            _custodyStruct(_ids(1, 2), _account(1), _account(2), 0, NOW)
        );

        _handOver(_ids(1, 2), 1, 2);

        assertEq(passports.ownerOf(1), _account(2), "the one");
        assertEq(passports.ownerOf(2), _account(2), "and the other");
        assertEq(bytes32(passports.passport(2).head), bytes32(head), "the hand-over is in the chain");
        assertEq(passports.nonceOf(_account(1)), 1, "the signature is used up");
        _happens(2, 1, IBatteryPassport.Kind.CHARGED, IBatteryPassport.Status.ORIGINAL);
    }

    function test_ARetiredBatteryChangesHandsToo() public {
        _issue(1, 1);
        _happens(1, 1, IBatteryPassport.Kind.RETIRED, IBatteryPassport.Status.WASTE);

        _handOver(_ids(1, 1), 1, 2);

        _happens(2, 1, IBatteryPassport.Kind.RECYCLED, IBatteryPassport.Status.WASTE);
    }
}
