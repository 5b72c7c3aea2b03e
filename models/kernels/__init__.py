"""The compiled kernels of the training core: Numba functions around vector kernels written as LLVM IR."""
