// The MPI communicator; ctest runs it under mpirun on 1, 2 and 4 ranks.
#include <gtest/gtest.h>

#include "comm/mpi.hpp"
#include "comm_checks.hpp"

namespace crema {
namespace {

class MpiEnvironment : public ::testing::Environment {
 public:
  void SetUp() override { comm = NewMpiCommunicator(nullptr, nullptr); }
  void TearDown() override { comm.reset(); }
  static std::unique_ptr<Communicator> comm;
};
std::unique_ptr<Communicator> MpiEnvironment::comm;
const auto* const environment = ::testing::AddGlobalTestEnvironment(new MpiEnvironment);

TEST(MpiCommunicator, EveryCollectiveGivesWhatAPlainLoopGives) {
  CheckAllCollectives(*MpiEnvironment::comm);
}

TEST(MpiCommunicator, LongCollectivesAreMadeInPieces) {
  MpiCommunicator in_pieces(nullptr, nullptr, 1000);
  CheckAllCollectives(in_pieces);
}

TEST(MpiCommunicator, ASumThatNobodyWaitsForIsFinishedAtTheEnd) {
  auto device = NewCpuDevice();
  MpiCommunicator comm(nullptr, nullptr);
  Tensor t = NewTensor(*device, {1000}, NumbersOf<float>(comm.rank(), 0, 1000));
  comm.StartAllReduce(&t, Reduce::kSum);
}

TEST(MpiCommunicator, ArgumentsAreChecked) {
  auto device = NewCpuDevice();
  Communicator& comm = *MpiEnvironment::comm;
  Tensor bytes(*device, DType::kU8, {3}), mine(*device, DType::kF32, {2, 3}), none;
  EXPECT_THROW(comm.AllReduce(&bytes, Reduce::kSum), Error);
  EXPECT_THROW(comm.AllReduce(&none, Reduce::kSum), Error);
  EXPECT_THROW(comm.AllGather(mine, {}, &mine), Error);
  EXPECT_THROW(comm.Broadcast(&mine, comm.size()), Error);
}

}  // namespace
}  // namespace crema
