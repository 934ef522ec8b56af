"""The tables that a tool writes into a page of the documentation, between two comments."""

END = "<!-- end of tables -->"


def with_tables(page: str, start: str, tables: str) -> str:
    """The page with ``tables`` between the comment ``start`` and ``END``. Raises ValueError where these are not."""
    before, found, rest = page.partition(start)
    if not found or END not in rest:
        raise ValueError(f"the page has no {start} … {END}")
    return f"{before}{start}\n\n{tables}\n{END}{rest.partition(END)[2]}"
