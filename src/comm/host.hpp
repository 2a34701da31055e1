// Floor 2, inside src/comm. What communicators share that do their sums themselves, in the host's memory:
// threads.cpp and tcp.cpp.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "crema/comm.hpp"

namespace crema {

// out[i] = inputs[0][first + i] + inputs[1][first + i] + ... in this order (or their maximum), for so many i.
// `out` may be inputs[r] + first for one r.
void CombineRanks(DType dtype, Reduce op, const std::vector<const void*>& inputs, int64_t first,
                  int64_t count, void* out);

// "AllReduce (sum) of 5 elements of f32": a call that must be the same on all ranks, in words.
std::string CallOfReduction(Reduce op, const Tensor& tensor);
std::string CallOfNumbers(const std::vector<int64_t>& counts);
std::string CallOfBroadcast(int root, const Tensor& tensor);
// "AllGather of 2, 3 rows of 4 elements of f32", `call` being its name.
std::string CallOnRows(const char* call, const std::vector<int64_t>& rows, const Tensor& all);

// A whole StartAllReduce(), its checks included, made of an AllReduce() at once. The result appears at Wait()
// only, so that a forgotten Wait() gives wrong numbers in a test rather than luck.
std::unique_ptr<Pending> ReduceCopy(Communicator& comm, const Tensor& tensor, Reduce op);

}  // namespace crema
