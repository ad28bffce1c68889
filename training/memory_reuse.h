// Memory that is freed stays with the process.
#pragma once

namespace switchyard {

/// From now on malloc keeps what is freed instead of giving it back to the system, and LibTorch asks for huge pages: a training step frees
/// as much as it takes, and the next one would fault every page in again (measured: a third of an MoE layer's time). Variables that the
/// user has set (MALLOC_MMAP_MAX_, THP_MEM_ALLOC_ENABLE) are left alone. Before the first tensor, and before there are other threads.
void reuse_memory();

}  // namespace switchyard
