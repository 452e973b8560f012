"""Images per second: `helpers.training.fit` against the usual DataLoader loop. Run it with `make bench`.

Same images, model, batch size, optimiser and thread count; both train on MNIST-LT (or its stand-in), three rounds in
turn, and the median counts.
"""

import statistics
import time

import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torchvision import transforms

from helpers.datasets import long_tailed
from helpers.models import Linear, Net
from helpers.training import Recipe, fit

STEPS, BATCH = 100, 128


class Usual(TorchDataset):
    """As torchvision's MNIST serves it: one PIL image at a time, ToTensor, Normalize."""

    def __init__(self, split):
        self.split = split
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])

    def __len__(self):
        return len(self.split)

    def __getitem__(self, row):
        image = transforms.functional.to_pil_image(self.split.inputs[row])
        return self.transform(image), int(self.split.labels[row])


def usual_loop(model, data) -> float:
    """Seconds of the loop that tutorials write."""
    torch.manual_seed(0)
    network = model(10)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.08, momentum=0.9, nesterov=True)
    step, started = 0, time.perf_counter()
    while step < STEPS:
        for images, labels in DataLoader(Usual(data.train), batch_size=BATCH, shuffle=True, drop_last=True):
            optimizer.zero_grad()
            F.cross_entropy(network(images), labels).backward()
            optimizer.step()
            step += 1
            if step == STEPS:
                break
    return time.perf_counter() - started


def our_loop(model, data) -> float:
    """Seconds of `fit`, its one validation included."""
    started = time.perf_counter()
    fit(Recipe(model=model, schedule=None), data, steps=STEPS, batch_size=BATCH, evaluate_every=STEPS, device="cpu")
    return time.perf_counter() - started


def main() -> None:
    torch.set_num_threads(1)
    data = long_tailed()
    print(f"{data.name}, {STEPS} steps of {BATCH}, one thread, images per second (median of three)")
    for model in (Linear, Net):
        our_loop(model, data), usual_loop(model, data)  # warm up
        rounds = [(our_loop(model, data), usual_loop(model, data)) for _ in range(3)]
        ours, usual = (STEPS * BATCH / statistics.median(times) for times in zip(*rounds, strict=True))
        print(f"{model.__name__:8} fit {ours:9,.0f}   DataLoader loop {usual:8,.0f}   {ours / usual:.1f} times")


if __name__ == "__main__":
    main()
