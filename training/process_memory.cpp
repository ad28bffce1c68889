#include "training/process_memory.h"

#include <sys/resource.h>
#include <unistd.h>

#include <fstream>

namespace switchyard {

double resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  double all_pages = 0.0, pages = 0.0;
  statm >> all_pages >> pages;
  return pages * static_cast<double>(sysconf(_SC_PAGESIZE));
}

double peak_resident_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return 1024.0 * static_cast<double>(usage.ru_maxrss);  // Linux counts kibibytes
}

}  // namespace switchyard
