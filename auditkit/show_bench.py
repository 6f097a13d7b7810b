"""What a benchmark prints on stderr."""

from typing import Any

from auditkit import terminal


def result(record: dict[str, Any]) -> None:
    """Seconds of each arm with 20th and 80th percentile, and how many times as long as ours it took."""
    if record.get("wrong"):
        terminal.say(f"{record['what']}: no time, since the check failed: {record['wrong']}")
    elif record["what"] == "kernels":
        for name, op in record["ops"].items():
            _arms(f"{name}, {record['rows']} rows, {record['dtype']} on {record['device']}", op)
            if "bytes_per_second" in op:
                share = 100 * op["bytes_per_second"] / record["copy_bytes_per_second"]
                terminal.say(f"  {op['bytes_per_second'] / 1e9:.1f} GB/s of what it must move, {share:.0f} % of a copy")
    elif record["what"] == "audit":
        rows = [(name, f"{row['first_word']:.2f}", f"{row['seconds']:.1f}", str(row["n"])) for name, row in record["commands"].items()]
        terminal.table("commands, median seconds", ["auditkit", "first word", "end", "n"], rows)
    else:
        about = ", ".join(f"{key} {record[key]}" for key in ("size", "rows", "images", "steps", "iterations", "precision") if key in record)
        _arms(f"{record['what']}: {about}", record)


def _arms(title: str, record: dict[str, Any]) -> None:
    if record.get("wrong"):
        terminal.say(f"{title}: no time, since the check failed: {record['wrong']}")
        return
    rows = []
    for name, arm in record["arms"].items():
        if "failed" in arm:
            terminal.say(f"  {name}: {arm['failed']}")
            continue
        ratio = record["times_ours"].get(name)
        took = f"{1000 * arm['seconds']:.3g}", f"{1000 * arm['p20']:.3g}-{1000 * arm['p80']:.3g}"
        more = arm.get("peak_bytes") or arm.get("added_bytes")
        rows.append((name, *took, "" if ratio is None else f"{ratio:.2f}", "" if more is None else terminal.bytes_text(more)))
    terminal.table(title, ["arm", "ms", "20-80 %", "times ours", "memory"], rows)
