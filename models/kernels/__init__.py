"""The compiled kernels of the training core: Numba functions that call vector kernels written as LLVM IR."""
