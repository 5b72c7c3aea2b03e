import torch
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from torch import nn

from pairsearch import Metric, OneByOne


class Wine(OneByOne):
    metrics = {"loss": Metric("log loss"), "error": Metric("error", percent=True)}

    def __init__(self, held_out=0.2):
        self.held_out = held_out
        x, self.y = map(torch.tensor, load_wine(return_X_y=True))
        self.x = ((x - x.mean(0)) / x.std(0)).float()
        self.rest, self.test = train_test_split(range(len(x)), test_size=0.2, stratify=self.y, random_state=0)

    def fit(self, params, run, report):
        train, held = self.rest, self.test
        if run.kind == "fold":
            train, held = train_test_split(train, test_size=self.held_out, random_state=run.stream("split"))
        torch.manual_seed(run.stream("weights"))
        width, activation = params["width"], getattr(nn, params["activation"])
        net = nn.Sequential(nn.Linear(13, width), activation(), nn.Linear(width, 3))
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
