"""GPUs by name, as data sheets state them: what is said of one before it was measured.

Memory is the decimal gigabytes of the name. A device has some 7% more (an H100 of 80 GB reports 85.5e9 bytes, an H200 150.8e9),
which the driver, the library that carries messages, and fragments take: what fits the name fits the device.
"""

from dataclasses import dataclass

# Of the data sheet's figures. Products and bandwidth: what public measurements of an H100 SXM give; messages are an assumption.
PRODUCTS, STREAMS, MESSAGES = 0.81, 0.87, 0.7
NODE = 8  # GPUs of a node, which see each other over NVLink


@dataclass(frozen=True)
class Gpu:
    """`memory`: bytes; `peak`: FLOP/s of dense bf16 products; bytes/s of its memory (`bandwidth`), and one way to others of its
    node (`link`) and to other nodes (`network`)."""

    title: str
    capability: str
    memory: float
    peak: float
    bandwidth: float
    link: float
    network: float
    source: str


GPUS = {
    "h100-80": Gpu(
        "H100 SXM", "sm_90", 80e9, 989e12, 3.35e12, 450e9, 50e9,
        "NVIDIA H100 data sheet (SXM; 1,979 TFLOP/s with sparsity, NVLink 900 GB/s both ways); DGX H100's: 400 Gb/s a GPU",
    ),
    "h200-141": Gpu(
        "H200 SXM", "sm_90", 141e9, 989e12, 4.8e12, 450e9, 50e9,
        "NVIDIA H200 data sheet (SXM; 1,979 TFLOP/s with sparsity, NVLink 900 GB/s both ways); DGX H200's: 400 Gb/s a GPU",
    ),
    "b200-180": Gpu(
        "B200 SXM", "sm_100", 180e9, 2.25e15, 8e12, 900e9, 50e9,
        "NVIDIA DGX B200 data sheet (an eighth of 1,440 GB, 64 TB/s, 14.4 TB/s NVLink both ways; 400 Gb/s a GPU); HGX B200's: "
        "4.5 PFLOP/s of bf16 with sparsity",
    ),
}  # fmt: skip
