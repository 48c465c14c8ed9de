"""The smallest pipeline: two functions, joined by the name of what they pass on.

python examples/smallest_pipeline.py
"""

from hypernodes import Pipeline, node


@node(output_name="words")
def split(text: str) -> list[str]:
    """Cut a text into its words."""
    return text.lower().split()


@node(output_name="longest")
def find_longest(words: list[str]) -> str:
    """Find the longest word; the parameter's name says that it comes from `split`."""
    return max(words, key=len)


# The order of the nodes does not matter: their names say which needs which.
pipeline = Pipeline([find_longest, split], name="smallest")


def main() -> None:
    """Run once, ask for a part, and map over many texts."""
    print(pipeline.run({"text": "Plain functions make pipelines"}))

    # Only what an output needs is computed.
    print(pipeline.run({"text": "Plain functions make pipelines"}, output_name="longest"))

    # The same pipeline over many texts; the results keep the order of the texts.
    texts = ["a graph of nodes", "executors say how", "backends say where"]
    for text, result in zip(
        texts,
        pipeline.map({"text": texts}, map_over="text", output_name="longest"),
        strict=True,
    ):
        print(f"{text!r}: {result['longest']}")

    # A node is still the function that it was made from.
    print(find_longest(["one", "three"]))


if __name__ == "__main__":
    main()
