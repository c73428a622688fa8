"""What a state held in bfloat16 does to where taught optimizers end.

    python benchmarks/low_precision.py [--on mlp-orig] [--steps 10000] [--seeds 3] [--data-dir FOLDER] [OPT ...]

Log-loss over the last 100 steps, mean ± standard deviation over seeds. Steps compute in single precision.
"""

import argparse

import tutelage
from tutelage.evaluation import describe, summarize
from tutelage.zoo import zoo_names

DTYPES = ("float32", "bfloat16")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("optimizers", nargs="*", default=zoo_names())
    parser.add_argument("--on", default="mlp-orig")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data-dir")
    arguments = parser.parse_args()
    print(f"| optimizer | {' | '.join(DTYPES)} |\n|---|{'---|' * len(DTYPES)}")
    for name in arguments.optimizers:
        num_steps = arguments.steps if tutelage.optimizer(name).scheduled else None
        table = tutelage.evaluate(
            {dtype: tutelage.load(name, num_steps=num_steps, state_dtype=dtype) for dtype in DTYPES},
            [arguments.on],
            num_steps=arguments.steps,
            num_seeds=arguments.seeds,
            data_dir=arguments.data_dir,
        )
        said = {row["optimizer"]: describe(row) for row in summarize(table).to_dicts()}
        print(f"| {name} | {' | '.join(said[dtype] for dtype in DTYPES)} |", flush=True)


if __name__ == "__main__":
    main()
