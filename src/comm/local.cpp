#include <unistd.h>

#include <algorithm>

#include "crema/comm.hpp"
#include "crema/philox.hpp"

namespace crema {

LocalRanks LocalRanksOf(Communicator& comm) {
  char name[256] = {};
  gethostname(name, sizeof(name) - 1);
  const int64_t key = static_cast<int64_t>(NameKey(name) >> 1);  // of this machine
  const std::vector<int64_t> keys = comm.AllGatherNumber(key);
  const auto count = [&](int end) {
    return static_cast<int>(std::count(keys.begin(), keys.begin() + end, key));
  };
  return {count(comm.rank()), count(comm.size())};
}

}  // namespace crema
