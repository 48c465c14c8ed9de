"""Pipelines inside pipelines, and many items at once.

    python examples/nesting_and_mapping.py

A small shop prices its orders: one pipeline prices a line of an order, another one uses it for all
lines of an order, and the whole is then mapped over orders and discounts.
"""

from collections.abc import Iterator
from typing import TypedDict

from hypernodes import Failure, Pipeline, node


class Line(TypedDict):
    """A line of an order."""

    item: str
    count: int


PRICES = {"tea": 4.0, "bread": 3.0, "honey": 9.5}


@node(output_name="price")
def look_up(line: Line) -> float:
    """Find what one piece costs; fails for what the shop does not sell."""
    return PRICES[line["item"]]


@node(output_name="amount")
def multiply(line: Line, price: float) -> float:
    """Price the whole line."""
    return line["count"] * price


@node(output_name="total")
def add_up(amounts: list[float], discount: float = 0.0) -> float:
    """Add up the lines of an order and take off the discount."""
    return round(sum(amounts) * (1 - discount), 2)


pricing = Pipeline([look_up, multiply], name="pricing")

# Inside, the pipeline speaks of one `line` and its `amount`. Outside, `order` is a list of lines,
# and `amounts` the list of what came out. `price` is not in the output mapping, so it stays inside.
all_lines = pricing.as_node(
    input_mapping={"order": "line"},
    output_mapping={"amount": "amounts"},
    map_over="order",
)
checkout = Pipeline([all_lines, add_up], name="checkout")

ORDERS: list[list[Line]] = [
    [{"item": "tea", "count": 2}, {"item": "bread", "count": 1}],
    [{"item": "honey", "count": 3}],
    [],
]


def show_one_order() -> None:
    """Run the outer pipeline once: the nested one runs for each line."""
    print("one order:", checkout.run({"order": ORDERS[0]}))


def show_zip() -> None:
    """Pair the names in `map_over`: the first order with the first discount, and so on."""
    results = checkout.map(
        {"order": ORDERS, "discount": [0.0, 0.1, 0.5]},
        map_over=("order", "discount"),
        output_name="total",
    )
    print("zip:", [result["total"] for result in results])


def show_product() -> None:
    """Combine every order with every discount; the last name varies fastest."""
    results = checkout.map(
        {"order": ORDERS[:2], "discount": [0.0, 0.1, 0.5]},
        map_over=("order", "discount"),
        map_mode="product",
        output_name="total",
    )
    print("product:", [result["total"] for result in results])


def show_failures() -> None:
    """Keep what worked: a failed item's place holds a `Failure` that knows what and where."""
    orders = [*ORDERS, [{"item": "gold", "count": 1}]]
    results = checkout.map({"order": orders}, map_over="order", on_error="return")
    for result in results:
        if isinstance(result, Failure):
            print(f"failed: item {result.index}, node {result.node!r}, {result.error!r}")
        else:
            print("priced:", result["total"])


def show_stream() -> None:
    """Take results as they come: the inputs may be endless, a bounded number is taken ahead."""

    def endless() -> Iterator[list[Line]]:
        count = 1
        while True:
            yield [{"item": "tea", "count": count}]
            count += 1

    stream = checkout.map_iter({"order": endless()}, map_over="order", output_name="total")
    for result in stream:
        print("streamed:", result["total"])
        if result["total"] >= 12:
            break
    stream.close()  # what has not started never will


def main() -> None:
    """Show each in turn."""
    show_one_order()
    show_zip()
    show_product()
    show_failures()
    show_stream()


if __name__ == "__main__":
    main()
