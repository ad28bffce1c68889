#include "training/memory_reuse.h"

#include <malloc.h>

#include <cstdlib>

namespace switchyard {

void reuse_memory() {
#ifdef __GLIBC__
  if (std::getenv("MALLOC_MMAP_MAX_") == nullptr) {
    constexpr int kGrowBytes = 64 << 20;
    mallopt(M_MMAP_MAX, 0);         // no mapping of its own for a large block: it would be unmapped when it is freed
    mallopt(M_TRIM_THRESHOLD, -1);  // never
    mallopt(M_TOP_PAD, kGrowBytes);
  }
#endif
  setenv("THP_MEM_ALLOC_ENABLE", "1", /*overwrite=*/0);
}

}  // namespace switchyard
