"""How fast a frozen encoder reads strings, and how fast a target vocabulary is coded in a source vocabulary.

    python benchmarks/sequence_throughput.py --strings 2000 --target-tokens 600

The other side of the comparison is what a user would write: ``AutoModel`` in a loop over unsorted batches, padded to the
longest string of each batch, float32, masked mean of the last layer. CPU seconds are this process's own, so that they can
be compared on a machine that does other work at the same time.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable

import numpy as np
import torch
from torch.nn.functional import cosine_similarity

from reprogram.inputs._sparse_coding import matching_pursuit, preselect
from reprogram.machine import peak_memory_mb
from reprogram.sources.minilm import MiniLM, packaged_folder


def smiles(count: int, seed: int = 0) -> list[str]:
    """Canonical SMILES of the bundled blood-brain-barrier table, in random order."""
    from molecules.chemistry import canonical
    from molecules.targets import packaged_table
    from reprogram.targets.tables import read_table

    column = read_table(packaged_table("classification")).columns["SMILES"]
    order = np.random.default_rng(seed).permutation(len(column))
    found = (canonical(column[i]) for i in order)
    return [s for s, _ in zip((s for s in found if s), range(count))]


def plain_loop(strings: list[str], batch_size: int) -> Callable[[], torch.Tensor]:
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(packaged_folder())
    model = AutoModel.from_pretrained(packaged_folder()).eval()

    def run() -> torch.Tensor:
        parts = []
        with torch.no_grad():
            for i in range(0, len(strings), batch_size):
                batch = tokenizer(strings[i : i + batch_size], padding=True, truncation=True, return_tensors="pt")
                states, mask = model(**batch).last_hidden_state, batch["attention_mask"][..., None]
                parts.append((states * mask).sum(1) / mask.sum(1))
        return torch.cat(parts)

    return run


def timed(run: Callable[[], torch.Tensor]) -> tuple[torch.Tensor, float, float]:
    """Answer, wall seconds, CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    answer = run()
    return answer, time.perf_counter() - wall, time.process_time() - cpu


def throughput(count: int, batch_sizes: list[int]) -> dict[str, object]:
    strings = smiles(count)
    source = MiniLM()
    runs = {f"plain loop, batches of {b}": plain_loop(strings, b) for b in batch_sizes}
    runs["length-bucketed source"] = lambda: source(strings).features
    rows, answers = {}, {}
    for name, run in runs.items():
        answers[name], wall, cpu = timed(run)
        rows[name] = {"strings_per_second": len(strings) / wall, "strings_per_cpu_second": len(strings) / cpu}
        print(f"{name:28s} {len(strings) / wall:8.1f} strings/s   {len(strings) / cpu:8.1f} strings/CPU s", flush=True)
    ours = answers.pop("length-bucketed source")
    cosine = min(float(cosine_similarity(ours, other).min()) for other in answers.values())
    fastest = max(rows[name]["strings_per_cpu_second"] for name in answers)
    ratio = rows["length-bucketed source"]["strings_per_cpu_second"] / fastest
    print(
        f"{ratio:.2f} times the fastest plain loop by CPU time; lowest cosine of an embedding to the loop's {cosine:.6f}"
    )
    return {"strings": len(strings), "rows": rows, "ratio_to_fastest_plain": ratio, "lowest_cosine": cosine}


def sparse_coding(target_tokens: int, sparsity: int, atoms: int, checked: int = 40) -> dict[str, object]:
    """Target tokens near combinations of six source tokens, coded in the whole vocabulary of the source."""
    from sklearn.linear_model import orthogonal_mp_gram

    frozen = MiniLM().spec.vocabulary.embeddings().detach()
    generator = torch.Generator().manual_seed(0)
    made_of = torch.randint(0, len(frozen), (target_tokens, 6), generator=generator)
    signals = frozen[made_of].mean(1) + 0.01 * torch.randn(target_tokens, frozen.shape[1], generator=generator)
    wall, cpu = time.perf_counter(), time.process_time()
    chosen = preselect(signals, frozen, atoms)
    ids, _ = matching_pursuit(signals, frozen[chosen], sparsity)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = peak_memory_mb() / 2**10
    unit = torch.nn.functional.normalize(frozen[chosen].double(), dim=1).numpy()
    expected = orthogonal_mp_gram(unit @ unit.T, unit @ signals[:checked].double().numpy().T, n_nonzero_coefs=sparsity)
    same = sum(set(np.flatnonzero(expected[:, i])) == set(ids[i].tolist()) for i in range(checked))
    print(
        f"OMP of {target_tokens} tokens in {len(frozen):,} ({len(chosen):,} preselected), {sparsity} atoms each: "
        f"{wall:.2f} s, {cpu:.2f} CPU s, peak memory of the process {peak:.2f} GB; "
        f"same supports as orthogonal_mp_gram for {same} of {checked}"
    )
    return {
        "target_tokens": target_tokens, "vocabulary": len(frozen), "preselected": len(chosen), "sparsity": sparsity,
        "seconds": wall, "cpu_seconds": cpu, "peak_gb": peak, "same_supports": [same, checked],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strings", type=int, default=2000)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--target-tokens", type=int, default=600)
    parser.add_argument("--sparsity", type=int, default=8)
    parser.add_argument("--atoms", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    coding = sparse_coding(options.target_tokens, options.sparsity, options.atoms)
    reading = throughput(options.strings, options.batch_sizes)
    versions = {"torch": torch.__version__, "python": platform.python_version(), "threads": options.threads}
    print(json.dumps({"omp": coding, "throughput": reading, "seeds": [0], "versions": versions}))


if __name__ == "__main__":
    main()
