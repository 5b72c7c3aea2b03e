import torch
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from torch import nn

from pairsearch import Metric, OneByOne


class Wine(OneByOne):
    metrics = {"loss": Metric("log loss"), "error": Metric("error", percent=True)}

    def __init__(self, held_out=0.2):
        self.held_out = held_out
        x, y = load_wine(return_X_y=True)
        x = (x - x.mean(0)) / x.std(0)
        # The last fifth of the examples is for the final evaluation alone.
        rest, test = train_test_split(range(len(y)), test_size=0.2, stratify=y, random_state=0)
        self.x, self.y, self.rest, self.test = torch.tensor(x).float(), torch.tensor(y), rest, test

    def fit(self, params, run, report):
        if run.kind == "fold":
            train, held = train_test_split(
                self.rest, test_size=self.held_out, random_state=run.stream("split")
            )
        else:
            train, held = self.rest, self.test
        torch.manual_seed(run.stream("weights"))
        hidden = nn.Linear(13, params["width"])
        net = nn.Sequential(hidden, getattr(nn, params["activation"])(), nn.Linear(params["width"], 3))
        optimiser = torch.optim.SGD(net.parameters(), lr=params["rate"])
        for epoch in range(1, run.epochs + 1):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(self.x[train]), self.y[train]).backward()
            optimiser.step()
            with torch.no_grad():
                output = net(self.x[held])
                loss = nn.functional.cross_entropy(output, self.y[held])
                report(epoch, loss=loss, error=(output.argmax(1) != self.y[held]).double().mean())
        return net.state_dict()
