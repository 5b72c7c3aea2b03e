"""A program whose runs take as long as a test likes, and go on from their checkpoints."""

from __future__ import annotations

SCRIPT = """
import json, os, random, signal, subprocess, sys, time

folder, epochs, x, every, rest = sys.argv[1], *(float(word) for word in sys.argv[2:])
state = folder + "/state.json"
chance = random.Random(int(os.environ["PAIRSEARCH_SEED"]))
place, epoch = 0.0, 0
if os.path.exists(state):
    place, epoch, (version, numbers, gauss) = json.load(open(state))
    chance.setstate((version, tuple(numbers), gauss))
print("begins after", epoch, file=sys.stderr)
waits = os.path.exists("wait") and epoch == 0
subprocess.Popen(["sleep", "600"], start_new_session=True)

def save(*told):
    with open(state + ".new", "w") as file:
        json.dump([place, epoch, chance.getstate()], file)
    os.replace(state + ".new", state)
    if told:
        sys.exit(143)

signal.signal(signal.SIGTERM, save)
while epoch < epochs:
    place, epoch = place + x * chance.gauss(0, 1), epoch + 1
    print(json.dumps({"epoch": epoch, "loss": place}))
    if epoch % every == 0:
        save()
    time.sleep(600 if waits and epoch == 5 else rest)
"""
"""It saves after every so many epochs, leaves a process, and waits after its fifth epoch if there is a file `wait`."""


def command(file: str, every: int = 1, rest: float = 0.0) -> list[str]:
    """The command that runs it, with a parameter `x`; `rest` is how many seconds it sleeps after an epoch."""
    return ["python", file, "{checkpoint}", "{epochs}", "{x}", str(every), str(rest)]
