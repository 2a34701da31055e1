// Floor 7. GPUs given as a flag, and the place where a net runs on them. Included by tools/*.cpp only.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "crema/context.hpp"
#include "tool.hpp"

namespace crema {

// What --gpu names: "0,2" or "all".
inline std::vector<int> GpusOf(const std::string& flag) {
  std::vector<int> gpus;
  const int count = CudaDeviceCount();  // throws where there is nothing to run on
  if (flag == "all") {
    for (int index = 0; index < count; ++index) gpus.push_back(index);
    return gpus;
  }
  for (const std::string& part : SplitAt(',', flag)) {
    const bool is_number = part.size() < 5 && part.find_first_not_of("0123456789") == std::string::npos;
    Require(is_number, "--gpu is \"", flag, "\", numbers separated by commas or all were expected");
    gpus.push_back(std::stoi(part));
  }
  Require(!gpus.empty(), "--gpu is \"", flag, "\", which names no GPU");
  return gpus;
}

// The CPU where the flag is empty, or else one of the GPUs, which the ranks of a machine take in turn. (A
// launcher may show each rank only its own, as number 0.)
inline std::unique_ptr<Workplace> NewWorkplace(Communicator& comm, const std::string& flag,
                                               double patience = kGpuPatience) {
  if (flag.empty()) return std::make_unique<Workplace>(comm);
  const std::vector<int> gpus = GpusOf(flag);
  const size_t mine = static_cast<size_t>(LocalRanksOf(comm).before) % gpus.size();
  std::unique_ptr<Device> device = NewCudaDevice(gpus[mine]);
  LOG_IF(INFO, comm.root()) << "Using " << device->name();
  return std::make_unique<Workplace>(std::move(device), comm, patience);
}

}  // namespace crema
