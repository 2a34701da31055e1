// Floor 2, inside src/comm. What every communicator checks before it starts a collective.
#pragma once

#include <string>
#include <vector>

#include "crema/comm.hpp"

namespace crema {

const char* NameOf(Reduce op);  // "sum"

// Throws Error unless the tensor has memory.
void CheckMemory(const char* call, const Tensor& tensor);
// The same, in reach of the host.
void CheckOnHost(const char* call, const Tensor& tensor);
// Throws Error unless the tensor has memory and is f32, f64, bf16, f16 or i64.
void CheckReducible(const char* call, const Tensor& tensor);
// Checks the arguments of AllGather and ReduceScatter: rank r has rows[r] rows in `mine`, all of them are in
// `all`, and the two do not share memory.
void CheckRows(const char* call, const Communicator& comm, const std::vector<int64_t>& rows,
               const Tensor& mine, const Tensor& all);
// Checks the arguments of AllGatherNumbers: rank r has counts[r] numbers.
void CheckNumbers(const Communicator& comm, const std::vector<int64_t>& mine,
                  const std::vector<int64_t>& counts);
void CheckRoot(const char* call, const Communicator& comm, int root);

// Bytes of one row, from axes 1 on.
int64_t RowBytes(const Tensor& tensor);

}  // namespace crema
