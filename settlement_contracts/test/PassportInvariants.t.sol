// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {BatteryPassport} from "../src/BatteryPassport.sol";
import {IBatteryPassport} from "../src/interfaces/IBatteryPassport.sol";
import {Passports} from "./base/Passports.sol";

/// @notice Six batteries and three custodians: anything is tried. It keeps its own heads, and what may only go forward.
contract BatteryTraffic is Passports {
    uint256 internal constant BATTERIES = 6;

    mapping(uint256 id => bytes24) public heads;
    mapping(uint256 id => uint16) public entries;
    mapping(uint256 id => uint32) public custodians;
    mapping(uint256 id => bool) public installed;
    mapping(uint256 id => bool) public ended;
    bool public broke;

    function setUp() public override {
        super.setUp();
        for (uint256 id = 1; id <= BATTERIES; ++id) {
            custodians[id] = 1 + uint32(id % 3);
            _issue(id, custodians[id]);
            heads[id] = passports.passport(id).head;
            entries[id] = 1;
        }
    }

    function append(uint256 id, uint8 kind, uint8 status, uint32 by) external {
        id = 1 + id % BATTERIES;
        IBatteryPassport.Kind what = IBatteryPassport.Kind(kind % 14);
        IBatteryPassport.Status to =
            status % 2 == 0 ? passports.passport(id).status : IBatteryPassport.Status(status % 5);
        uint32 account = by % 8 == 0 ? 1 + by % 3 : custodians[id];
        IBatteryPassport.Entry memory entry = _entry(id, what, to, NOW);
        vm.prank(_account(account));
        try passports.append(_one(entry)) {
            bool isIn = what == IBatteryPassport.Kind.INSTALLED || what == IBatteryPassport.Kind.SWAPPED_IN;
            if (account != custodians[id] || ended[id] || (isIn && installed[id])) broke = true;
            if (what == IBatteryPassport.Kind.OWNERSHIP) broke = true;
            if (isIn) installed[id] = true;
            if (what == IBatteryPassport.Kind.SWAPPED_OUT || what == IBatteryPassport.Kind.RETIRED) {
                installed[id] = false;
            }
            if (what == IBatteryPassport.Kind.RECYCLED) ended[id] = true;
            heads[id] = _chained(heads[id], id, what, to, NOW, _account(account), entry.commitment);
            ++entries[id];
        } catch {}
    }

    function handOver(uint256 id, uint32 to) external {
        id = 1 + id % BATTERIES;
        to = 1 + to % 3;
        if (ended[id] || passports.passport(id).phase == IBatteryPassport.Phase.SUCCEEDED) return;
        uint256 nonce = passports.nonceOf(_account(custodians[id]));
        bytes32 word =
            _custodyStruct(_ids(id, 1), _account(custodians[id]), _account(to), nonce, uint64(block.timestamp));
        IBatteryPassport.Status status = passports.passport(id).status;
        _handOver(_ids(id, 1), custodians[id], to);
        heads[id] = _chained(heads[id], id, IBatteryPassport.Kind.OWNERSHIP, status, NOW, _account(to), word);
        custodians[id] = to;
        ++entries[id];
    }

    function contracts() external view returns (BatteryPassport) {
        return passports;
    }
}

contract PassportInvariantsTest is Passports {
    BatteryTraffic private _traffic;

    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    function setUp() public override {
        _traffic = new BatteryTraffic();
        _traffic.setUp();
        passports = _traffic.contracts();
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_traffic);
    }

    function targetSelectors() public view returns (FuzzSelector[] memory targets) {
        bytes4[] memory selectors = new bytes4[](2);
        selectors[0] = BatteryTraffic.append.selector;
        selectors[1] = BatteryTraffic.handOver.selector;
        targets = new FuzzSelector[](1);
        targets[0] = FuzzSelector(address(_traffic), selectors);
    }

    /// @dev Nobody but custodians spoke, no battery was put in twice, nothing came after the end, nothing was forgotten.
    /// forge-config: default.invariant.depth = 48
    function invariant_LivesAreInOrder() public view {
        assertFalse(_traffic.broke(), "what is refused was refused");
        for (uint256 id = 1; id <= 6; ++id) {
            IBatteryPassport.Passport memory passport = passports.passport(id);
            assertEq(bytes32(passport.head), bytes32(_traffic.heads(id)), "head");
            assertEq(passport.entries, _traffic.entries(id), "entries");
            assertEq(passports.ownerOf(id), _account(_traffic.custodians(id)), "custodian");
            bool isIn = passport.phase == IBatteryPassport.Phase.INSTALLED;
            assertTrue(isIn == _traffic.installed(id), "installed");
            assertTrue((passport.phase == IBatteryPassport.Phase.RECYCLED) == _traffic.ended(id), "ended");
        }
    }
}
