"""Images, channels last; the flatten goes back to torch's order."""

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np

draw = np.random.RandomState(0)
images = draw.rand(32, 3, 8, 8).astype(np.float32).transpose(0, 2, 3, 1)
labels = draw.randint(0, 4, 32)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm(6)
        self.conv2 = nn.Conv2d(6, 8, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm(8)
        self.pool1 = nn.MaxPool2d(2, 2)
        self.pool2 = nn.AvgPool2d(2, 2)
        self.fc = nn.Linear(8 * 2 * 2, 4)

    def __call__(self, x):
        x = self.pool1(nn.relu(self.bn1(self.conv1(x))))
        x = self.pool2(nn.leaky_relu(self.bn2(self.conv2(x)), 0.1))
        x = x.transpose(0, 3, 1, 2)
        return self.fc(x.reshape(x.shape[0], -1))


net = Net()
optimizer = optim.SGD(learning_rate=0.05, momentum=0.9, weight_decay=1e-2, nesterov=True)


def loss_fn(x, y):
    return nn.losses.cross_entropy(net(x), y, reduction="mean")


loss_and_grad = nn.value_and_grad(net, loss_fn)
for epoch in range(6):
    net.train()
    optimizer.learning_rate = 0.05 * 0.5 ** (epoch // 2)
    for i in range(0, 32, 16):
        x, y = mx.array(images[i : i + 16]), mx.array(labels[i : i + 16])
        loss, grads = loss_and_grad(x, y)
        optimizer.update(net, grads)
        mx.eval(net.parameters(), optimizer.state)
    net.eval()
    print(epoch, loss_fn(mx.array(images), mx.array(labels)).item())
