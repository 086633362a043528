"""`EmbeddedCurrency.sol` and `CollateralVault.sol` in Python, without withdrawals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from emobility.adapters.memory.contracts.contract import NOBODY, Contract
from emobility.adapters.memory.contracts.registry import RegistryModel
from emobility.domain.batch import contracts

_UNLIMITED: Final = (1 << 256) - 1


class CurrencyModel(Contract):
    """Play money with four decimals."""

    takes = "(string,string,address)"
    functions: ClassVar = {
        contracts.MINT: "mint",
        contracts.APPROVE: "approve",
        contracts.TOKENS_OF: "balance_of",
        contracts.DECIMALS: "decimals",
    }

    def make(self, _name: bytes, _symbol: bytes, admin: bytes) -> None:  # type: ignore[override]  # each its own
        """Carry out the constructor: the admin mints."""
        super().make(admin)
        self._grant(contracts.MINTER_ROLE, admin)

    def mint(self, to: bytes, amount: int) -> None:
        """Make money."""
        self._require_role(contracts.MINTER_ROLE)
        self._write("balance", to, value=self.balance_of(to) + amount)
        self._tell(contracts.TRANSFER, NOBODY, to, amount, indexed=2)

    def approve(self, spender: bytes, amount: int) -> bool:
        """Allow a spender so much of the caller's."""
        self._write("allowance", self._sender, spender, value=amount)
        self._tell(contracts.APPROVAL, self._sender, spender, amount, indexed=2)
        return True

    def transfer_from(self, owner: bytes, to: bytes, amount: int) -> None:
        """Move an owner's money as the caller was allowed to."""
        allowance = self._read("allowance", owner, self._sender) or 0
        if amount > allowance:
            self._refuse(contracts.ALLOWANCE_SHORT, self._sender, allowance, amount)
        if allowance != _UNLIMITED:
            self._write("allowance", owner, self._sender, value=allowance - amount)
        balance = self.balance_of(owner)
        if amount > balance:
            self._refuse(contracts.TOKENS_SHORT, owner, balance, amount)
        self._write("balance", owner, value=balance - amount)
        self._write("balance", to, value=self.balance_of(to) + amount)
        self._tell(contracts.TRANSFER, owner, to, amount, indexed=2)

    def balance_of(self, account: bytes) -> int:
        """Return what an account has."""
        return self._read("balance", account) or 0

    def decimals(self) -> int:
        """Return four."""
        return 4


class VaultModel(Contract):
    """Collateral of one currency, by party number."""

    takes = "(address,address,uint64,address)"
    functions: ClassVar = {
        contracts.DEPOSIT: "deposit",
        contracts.APPLY_NETS: "apply_nets",
        contracts.RESERVE: "reserve",
        contracts.RELEASE: "release",
        contracts.TAKE_RESERVED: "take_reserved",
        contracts.COLLATERAL_OF: "balance_of",
        contracts.FREE_OF: "free_of",
        contracts.RESERVED_BY: "reserved_by",
        contracts.TOTAL_COLLATERAL: "total_balance",
        contracts.TOKEN: "token",
        contracts.REGISTRY: "registry",
        contracts.UNITS_PER_E4: "units_per_e4",
    }

    def make(self, token: bytes, registry: bytes, delay_s: int, admin: bytes) -> None:  # type: ignore[override]
        """Carry out the constructor."""
        self._write("token", value=token)
        self._write("registry", value=registry)
        self._write("delay", value=delay_s)
        super().make(admin)

    def deposit(self, party: int, amount: int) -> None:
        """Credit a party with the caller's money."""
        RegistryModel(self._at, address=self.registry(), sender=self._address).signer_of(party)
        CurrencyModel(self._at, address=self.token(), sender=self._address).transfer_from(
            self._sender, self._address, amount
        )
        if not amount:
            self._refuse(contracts.ZERO_AMOUNT)
        self._write("free", party, value=self.free_of(party) + amount)
        self._write("total", value=self.total_balance() + amount)
        self._tell(contracts.DEPOSITED, party, self._sender, amount, indexed=2)

    def apply_transfers(self, transfers: Sequence[tuple[int, int, int]]) -> list[bool]:
        """Make payments (payer, payee, amount in ten-thousandths), each if there is cover when its turn comes."""
        self._require_role(contracts.BOOK_ROLE)
        paid = []
        for payer, payee, amount in transfers:
            free = self.free_of(payer)
            paid.append(amount <= free)
            if paid[-1]:
                self._write("free", payer, value=free - amount)
                self._write("free", payee, value=self.free_of(payee) + amount)
        return paid

    def apply_nets(self, parties: Sequence[int], nets_e4: Sequence[int]) -> None:
        """Add each net to a party's free collateral, all or none."""
        self._require_role(contracts.BOOK_ROLE)
        if len(parties) != len(nets_e4):
            self._refuse(contracts.UNEQUAL_LENGTHS, len(parties), len(nets_e4))
        for party, net_e4 in zip(parties, nets_e4, strict=True):
            if -net_e4 > self.free_of(party):
                self._refuse(contracts.VAULT_SHORT, party, -net_e4, self.free_of(party))
            self._write("free", party, value=self.free_of(party) + net_e4)
        if sum(nets_e4):
            self._refuse(contracts.NOT_ZERO_SUM, sum(nets_e4))

    def reserve(self, party: int, amount: int) -> None:
        """Set free collateral aside for the calling book."""
        self._require_role(contracts.BOOK_ROLE)
        if amount > self.free_of(party):
            self._refuse(contracts.VAULT_SHORT, party, amount, self.free_of(party))
        self._write("free", party, value=self.free_of(party) - amount)
        self._write("reserved", party, value=self._reserved(party) + amount)
        self._write("reserved_by", self._sender, party, value=self.reserved_by(self._sender, party) + amount)
        self._tell(contracts.COLLATERAL_RESERVED, party, self._sender, amount, indexed=2)

    def release(self, party: int, amount: int) -> None:
        """Give back what the calling book reserved."""
        self._take_reserved(party, party, amount)
        self._tell(contracts.COLLATERAL_RELEASED, party, self._sender, amount, indexed=2)

    def take_reserved(self, payer: int, payee: int, amount: int) -> None:
        """Pay out of what the calling book reserved."""
        self._take_reserved(payer, payee, amount)
        self._tell(contracts.RESERVED_TAKEN, payer, payee, self._sender, amount, indexed=3)

    def _take_reserved(self, payer: int, payee: int, amount: int) -> None:
        self._require_role(contracts.BOOK_ROLE)
        reserved = self.reserved_by(self._sender, payer)
        if amount > reserved:
            self._refuse(contracts.NOT_RESERVED, payer, amount, reserved)
        self._write("reserved_by", self._sender, payer, value=reserved - amount)
        self._write("reserved", payer, value=self._reserved(payer) - amount)
        self._write("free", payee, value=self.free_of(payee) + amount)

    def balance_of(self, party: int) -> int:
        """Return a party's collateral, free and reserved."""
        return self.free_of(party) + self._reserved(party)

    def free_of(self, party: int) -> int:
        """Return what of it pays statements and can be withdrawn."""
        return self._read("free", party) or 0

    def reserved_by(self, book: bytes, party: int) -> int:
        """Return what a book has reserved of a party's."""
        return self._read("reserved_by", book, party) or 0

    def _reserved(self, party: int) -> int:
        return self._read("reserved", party) or 0

    def total_balance(self) -> int:
        """Return everybody's collateral."""
        return self._read("total") or 0

    def delay_s(self) -> int:
        """Return how long withdrawals wait."""
        return int(self._read("delay"))

    def token(self) -> bytes:
        """Return the money's contract."""
        return bytes(self._read("token"))

    def registry(self) -> bytes:
        """Return where parties are registered."""
        return bytes(self._read("registry"))

    def units_per_e4(self) -> int:
        """Return one: `CurrencyModel` has four decimals."""
        return 1
