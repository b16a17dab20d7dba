"""A reverse-path or forward-path as a value (RFC 5321 §4.1.2)."""

from __future__ import annotations

from mta_front.smtp.params import RcptDsn


class Address:
    """`local_part` (as written, quotes included), `domain` (as written; "" for `<>` and `<postmaster>`), and the ESMTP
    parameters that came with it in `args`, names in upper case, without value: "", xtext decoded. `dsn`: of a
    recipient what is to be reported of it (RFC 3461 §4), None where nothing was said.

    `address` is "local@domain", "" for the null reverse-path, "postmaster" for the one address without a domain.
    """

    __slots__ = ("args", "domain", "dsn", "local_part")

    def __init__(
        self, local_part: str, domain: str, args: dict[str, str] | None = None, dsn: RcptDsn | None = None
    ) -> None:
        self.local_part = local_part
        self.domain = domain
        self.args = args if args is not None else {}
        self.dsn = dsn

    @property
    def address(self) -> str:
        """The address as text."""
        return f"{self.local_part}@{self.domain}" if self.domain else self.local_part

    def __str__(self) -> str:
        return self.address

    def __repr__(self) -> str:
        return f"Address({self.local_part!r}, {self.domain!r}, {self.args!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Address):
            return NotImplemented
        return (self.local_part, self.domain, self.args) == (other.local_part, other.domain, other.args)

    def __hash__(self) -> int:
        return hash((self.local_part, self.domain))
