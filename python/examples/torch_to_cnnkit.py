"""From a torch.nn.Module to a compressed model. Needs torch and onnx; the data are made by formula."""

import cnnkit
import torch

data = cnnkit.load_data("synth")
net = torch.nn.Sequential(
    torch.nn.Conv2d(1, 16, 5, padding=2), torch.nn.BatchNorm2d(16), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
    torch.nn.Conv2d(16, 32, 5), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten(), torch.nn.Linear(800, 10),
)  # fmt: skip

# Training with torch, as ever.
images, labels = torch.tensor(data.images).permute(0, 3, 1, 2) / 255, torch.tensor(data.labels).long()
optimizer = torch.optim.Adam(net.parameters(), lr=0.003)
for batch in [torch.arange(i, i + 64) % len(labels) for i in range(0, 2 * len(labels), 64)]:
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(net(images[batch]), labels[batch]).backward()
    optimizer.step()

# From here on without it.
model = cnnkit.from_torch(net, input_shape=(28, 28, 1))
small = model.optimize(data, prune=0.5, int8=True, finetune=2, progress=print)
print(f"on the test set: {model.evaluate('synth').accuracy:.1%} before, {small.evaluate('synth').accuracy:.1%} after")
small.save("small.cnn")  # for cnn-infer, and C programs
small.save("small.onnx")  # for ONNX Runtime, OpenVINO, TensorRT
print(small.info)
