"""Export of runs to other programs: nnU-Net, MONAI, ONNX and TorchScript."""
