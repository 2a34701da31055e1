// The head against one dense softmax over real MPI ranks; run under mpirun -n 1, 2 and 4.
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "partial_fc_checks.hpp"
#include "streaming_head_checks.hpp"

namespace crema {
namespace {

// A million identities, as one layer: this rank's rows, and the losses, are those of one rank alone.
void CheckMillion(Communicator& comm) {
  StreamingCase c;
  c.classes = 1000000, c.width = 8, c.batch = 24;
  c.head = "sample_rate: 0.1", c.margin = "m2: 0.5 scale: 16";
  const Result mine = Train(comm, c, true), one = TrainAlone(c, true);
  ExpectNear(mine.losses, one.losses, 2e-5, "losses");
  const Shard shard = ShardOf(c.classes, comm.size(), comm.rank());
  const auto begin = one.rows.begin() + shard.first * c.width;
  ExpectNear(mine.rows, {begin, begin + shard.rows * c.width}, 2e-5, "rows");
}

TEST(MpiPartialFC, EqualsADenseSoftmax) {
  int argc = 0;
  char** argv = nullptr;
  const std::unique_ptr<Communicator> comm = NewMpiCommunicator(&argc, &argv);
  int number = 0;
  for (const HeadCase& c : HeadCases()) {
    SCOPED_TRACE(Concat("case ", number++));
    CheckHead(*comm, c);
  }
  if (!TestsRunOnGpu()) CheckMillion(*comm);  // in the same test: MPI is started once in a process
}

}  // namespace
}  // namespace crema
