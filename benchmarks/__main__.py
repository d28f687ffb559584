"""Run a benchmark by name."""

import argparse
import importlib
import sys

NAMES = {
    "throughput": "populations beside plain inference on as many tokens",
    "ask_tell": "ask and tell beside evosax: seconds, compile seconds, memory",
    "quality": "targets of COCO's bbob functions reached, beside other libraries",
    "functions": "evaluations to the optimum of test functions, for every algorithm",
    "discrete": "evaluations to the optimum of problems of bits, beside other libraries",
    "tuning": "validation perplexity of every algorithm at the same number of forward tokens",
    "chunks": "seconds per member against members side by side",
    "decoder": "forward tokens per second beside torch, and forms of attention",
    "memory": "host memory of a generation over all weights, beside evosax",
    "loading": "seconds and host memory of loading a checkpoint",
    "scaling": "tokens per second over devices, processes, members and models",
    "report": "tables and plots of all results, in Markdown and SVG",
}


def main() -> None:
    listed = "\n".join(f"  {name:10} {what}" for name, what in NAMES.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=f"benchmarks:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--quick", action="store_true", help="a smaller run, under two minutes")
    parser.add_argument("--json", metavar="FILE", help="append the results as JSON lines")
    if sys.argv[1:2] and sys.argv[1] in NAMES:
        benchmark = importlib.import_module(f".{sys.argv[1]}", __package__)
        if hasattr(benchmark, "arguments"):
            benchmark.arguments(parser)
    options = vars(parser.parse_args())
    importlib.import_module(f".{options.pop('name')}", __package__).main(**options)


if __name__ == "__main__":
    main()
