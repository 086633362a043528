from __future__ import annotations

from hypothesis import strategies as st

from emobility.domain.batch.leaf import NO_METER, Leaf, LeafKind

HASHES = st.binary(min_size=32, max_size=32)
WH = st.integers(0, 2**64 - 1)
AMOUNTS_E4 = st.integers(-(10**12), 10**12)


def a_leaf(
    key: bytes, *, kind: LeafKind, wh: tuple[int, int], commitment: bytes, net_e4: int, meter: bytes = NO_METER
) -> Leaf:
    return Leaf(
        kind=kind,
        cdr_key=key,
        import_wh=wh[0],
        export_wh=wh[1],
        commitment=commitment,
        meter=meter,
        due_e4=max(0, net_e4),
        credit_e4=max(0, -net_e4),
    )


LEAVES = st.builds(
    a_leaf,
    HASHES,
    kind=st.sampled_from(LeafKind),
    wh=st.tuples(WH, WH),
    commitment=HASHES,
    net_e4=AMOUNTS_E4,
    meter=HASHES | st.just(NO_METER),
)


def statements(max_size: int = 20) -> st.SearchStrategy[list[Leaf]]:
    return st.lists(LEAVES, min_size=1, max_size=max_size, unique_by=lambda leaf: leaf.cdr_key)
