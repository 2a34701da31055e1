#include <fstream>
#include <sstream>
#include <thread>

#include <dnnl.hpp>

#include <cblas.h>

#include "crema/device.hpp"

namespace crema {

namespace {

// What a "name : value" line of a file of /proc says.
std::string ValueOf(const char* file, const std::string& name) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    if (line.rfind(name, 0) != 0) continue;
    const size_t colon = line.find(':'), begin = line.find_first_not_of(" \t", colon + 1);
    if (colon != std::string::npos && begin != std::string::npos) return line.substr(begin);
  }
  return "";
}

}  // namespace

// "cpu: AMD EPYC, 2 threads, 24 GiB of memory; oneDNN 2.6.0, OpenBLAS 0.3.21"
std::string DescribeCpu() {
  const std::string model = ValueOf("/proc/cpuinfo", "model name");
  int64_t kibibytes = 0;
  std::istringstream(ValueOf("/proc/meminfo", "MemTotal")) >> kibibytes;
  const dnnl_version_t& onednn = *dnnl_version();
  std::string name, openblas;
  std::istringstream(openblas_get_config()) >> name >> openblas;
  return Concat("cpu: ", model.empty() ? "" : model + ", ", std::thread::hardware_concurrency(), " threads, ",
                (kibibytes + (1 << 19)) >> 20, " GiB of memory; oneDNN ", onednn.major, ".", onednn.minor,
                ".", onednn.patch, ", ", name, " ", openblas);
}

}  // namespace crema
