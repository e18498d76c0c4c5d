"""Clothes of Fashion-MNIST told apart by a small convolutional network, with all that a training
script has around it: a dataset of its own, transforms, a schedule, metrics, checkpoints."""

import argparse
import gzip
import os
import struct
import tempfile
from collections import defaultdict

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, Dataset, Subset

#: Where Debian's dataset-fashion-mnist has the files.
REQUIRES = "/usr/share/datasets/fashion-mnist"
CLASSES = [
    "top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "boot",
]


def parse_args(arguments=()):
    parser = argparse.ArgumentParser(description="PyTorch Fashion-MNIST example")
    parser.add_argument("--batch-size", type=int, default=32, metavar="N")
    parser.add_argument("--test-batch-size", type=int, default=100, metavar="N")
    parser.add_argument("--epochs", type=int, default=2, metavar="N")
    parser.add_argument("--lr", type=float, default=0.01, metavar="LR")
    parser.add_argument("--momentum", type=float, default=0.5)
    parser.add_argument("--weight-decay", type=float, default=5e-4)
    parser.add_argument("--gamma", type=float, default=0.7, metavar="M")
    parser.add_argument("--label-smoothing", type=float, default=0.05)
    parser.add_argument("--train-items", type=int, default=800)
    parser.add_argument("--test-items", type=int, default=300)
    parser.add_argument("--no-cuda", action="store_true", default=False)
    parser.add_argument("--log-interval", type=int, default=1, metavar="N")
    return parser.parse_args(list(arguments))


def read_idx(path):
    """The items of an idx file of bytes."""
    with gzip.open(path, "rb") as f:
        zero, kind, rank = struct.unpack(">HBB", f.read(4))
        shape = struct.unpack(">" + "I" * rank, f.read(4 * rank))
        return np.frombuffer(f.read(), dtype=np.uint8).reshape(shape)


class Clothes(Dataset):
    """Pictures with a channel, and classes."""

    def __init__(self, root, train=True, transform=None):
        part = "train" if train else "t10k"
        self.images = read_idx(os.path.join(root, part + "-images-idx3-ubyte.gz"))
        self.labels = read_idx(os.path.join(root, part + "-labels-idx1-ubyte.gz"))
        self.transform = transform

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = torch.from_numpy(self.images[index].astype(np.float32) / 255.0).unsqueeze(0)
        if self.transform is not None:
            image = self.transform(image)
        return image, torch.tensor(int(self.labels[index]), dtype=torch.long)


class Standardize:
    """What torchvision's Normalize does, for one channel."""

    def __init__(self, mean, std):
        self.mean = mean
        self.std = std

    def __call__(self, image):
        return (image - self.mean) / self.std


class ConvBlock(nn.Module):
    def __init__(self, in_channels, out_channels, stride=1):
        super(ConvBlock, self).__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.act(self.bn(self.conv(x)))


class Net(nn.Module):
    def __init__(self, num_classes=10):
        super(Net, self).__init__()
        self.features = nn.Sequential(
            ConvBlock(1, 8),
            nn.MaxPool2d(2),
            ConvBlock(8, 16),
            nn.MaxPool2d(2),
            ConvBlock(16, 16, stride=2),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(16 * 4 * 4, 32),
            nn.ReLU(),
            nn.Linear(32, num_classes),
        )

    def forward(self, x):
        x = self.features(x)
        return self.classifier(x)


class AverageMeter(object):
    """Computes and stores the average and current value."""

    def __init__(self):
        self.reset()

    def reset(self):
        self.val, self.avg, self.sum, self.count = 0, 0, 0, 0

    def update(self, val, n=1):
        self.val = val
        self.sum += val * n
        self.count += n
        self.avg = self.sum / self.count


def accuracy(output, target, topk=(1,)):
    """Accuracy over the k top predictions for the specified values of k."""
    with torch.no_grad():
        maxk = max(topk)
        batch_size = target.size(0)
        _, pred = output.topk(maxk, 1, True, True)
        pred = pred.t()
        correct = pred.eq(target.view(1, -1).expand_as(pred))
        res = []
        for k in topk:
            correct_k = correct[:k].reshape(-1).float().sum(0, keepdim=True)
            res.append(correct_k.mul_(100.0 / batch_size))
        return res


def train(args, model, device, train_loader, optimizer, epoch, history):
    model.train()
    losses, top1 = AverageMeter(), AverageMeter()
    for batch_idx, (data, target) in enumerate(train_loader):
        data, target = data.to(device), target.to(device)
        optimizer.zero_grad()
        output = model(data)
        loss = F.cross_entropy(output, target, label_smoothing=args.label_smoothing)
        loss.backward()
        optimizer.step()
        losses.update(loss.item(), data.size(0))
        top1.update(accuracy(output, target)[0].item(), data.size(0))
        if batch_idx % args.log_interval == 0:
            history["train"].append(loss.item())
    history["epoch"].append(losses.avg)
    history["accuracy"].append(top1.avg)


def test(model, device, test_loader, history):
    model.eval()
    test_loss = 0
    correct = 0
    confusion = torch.zeros(10, 10)
    with torch.no_grad():
        for data, target in test_loader:
            data, target = data.to(device), target.to(device)
            output = F.log_softmax(model(data), dim=1)
            test_loss += F.nll_loss(output, target, reduction="sum").item()
            pred = output.argmax(dim=1, keepdim=True)
            correct += pred.eq(target.view_as(pred)).sum().item()
            for t, p in zip(target.tolist(), pred.squeeze(1).tolist()):
                confusion[t, p] += 1
    test_loss /= len(test_loader.dataset)
    recall = confusion.diag() / confusion.sum(1).clamp(min=1)
    history["test"].append(test_loss)
    history["accuracy"] += [correct / len(test_loader.dataset), recall.mean().item()]


def build():
    return Net()


def run(model):
    args = parse_args()
    use_cuda = not args.no_cuda and torch.cuda.is_available()
    device = torch.device("cuda" if use_cuda else "cpu")
    model = model.to(device)

    transform = Standardize(0.2860, 0.3530)
    dataset1 = Subset(Clothes(REQUIRES, transform=transform), range(args.train_items))
    dataset2 = Subset(Clothes(REQUIRES, train=False, transform=transform), range(args.test_items))
    train_kwargs = {"batch_size": args.batch_size}
    test_kwargs = {"batch_size": args.test_batch_size}
    train_loader = DataLoader(dataset1, drop_last=True, **train_kwargs)
    test_loader = DataLoader(dataset2, **test_kwargs)

    optimizer = optim.SGD(
        model.parameters(), lr=args.lr, momentum=args.momentum, weight_decay=args.weight_decay
    )
    scheduler = StepLR(optimizer, step_size=1, gamma=args.gamma)
    history = defaultdict(list)
    for epoch in range(1, args.epochs + 1):
        train(args, model, device, train_loader, optimizer, epoch, history)
        test(model, device, test_loader, history)
        scheduler.step()

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "fashion_cnn.pt")
        torch.save(model.state_dict(), path)
        again = Net().to(device)
        again.load_state_dict(torch.load(path))
    test(again, device, test_loader, history)
    # one picture more or less is no difference of the losses: accuracies are close, not equal
    close = [round(value / 20 if value > 1 else value * 5) for value in history["accuracy"][-2:]]
    return history["train"] + history["epoch"] + history["test"] + close
