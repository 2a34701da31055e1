// Communicators of one rank and of ranks as threads.
#include "crema/comm.hpp"

#include <gtest/gtest.h>

#include <numeric>

#include "comm_checks.hpp"

namespace crema {
namespace {

TEST(SelfCommunicator, EveryCollectiveIsACopy) {
  auto comm = NewSelfCommunicator();
  EXPECT_EQ(comm->rank(), 0);
  EXPECT_EQ(comm->size(), 1);
  CheckAllCollectives(*comm);
}

class RanksAsThreads : public ::testing::TestWithParam<int> {};

TEST_P(RanksAsThreads, EveryCollectiveGivesWhatAPlainLoopGives) {
  RunRanks(GetParam(), CheckAllCollectives);
}

TEST_P(RanksAsThreads, SumsAreTheSameInEveryRun) {
  const int ranks = GetParam();
  std::vector<float> first;
  for (int run = 0; run < 3; ++run) {
    std::vector<std::vector<float>> results(static_cast<size_t>(ranks));
    RunRanks(ranks, [&](Communicator& host) {
      TestPlace place(host);
      Tensor t = RoughNumbers(*place.context().device, host.rank(), 1001);
      place.context().comm->AllReduce(&t, Reduce::kSum);
      results[static_cast<size_t>(host.rank())] = t.ToHost<float>();
    });
    if (run == 0) first = results[0];
    for (const auto& result : results) EXPECT_EQ(result, first);
  }
}

INSTANTIATE_TEST_SUITE_P(Comm, RanksAsThreads, ::testing::Values(1, 2, 3, 4));

std::string MessageOf(int ranks, const std::function<void(Communicator&)>& body) {
  try {
    RunRanks(ranks, body);
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

TEST(RunRanks, AFailureReleasesTheOthersAndIsRethrown) {
  std::vector<std::string> seen(3);
  const std::string message = MessageOf(3, [&](Communicator& comm) {
    comm.Barrier();
    if (comm.rank() == 1) throw Error("the disk is full.");
    try {
      for (;;) comm.Barrier();
    } catch (const Error& e) {
      seen[static_cast<size_t>(comm.rank())] = e.what();
      throw;
    }
  });
  EXPECT_EQ(message, "the disk is full.");
  EXPECT_EQ(seen[0], "rank 1 failed: the disk is full.");
  EXPECT_EQ(seen[2], "rank 1 failed: the disk is full.");
}

TEST(RunRanks, KeepsTheTypeOfTheFailure) {
  EXPECT_THROW(RunRanks(2,
                        [](Communicator& comm) {
                          if (comm.rank() == 0) throw std::out_of_range("far");
                          comm.Barrier();
                        }),
               std::out_of_range);
}

TEST(RunRanks, AbortReleasesTheOthers) {
  EXPECT_EQ(MessageOf(4,
                      [](Communicator& comm) {
                        if (comm.rank() == 3) return comm.Abort("no more.");
                        comm.AllGatherNumber(1);
                      }),
            "no more.");
}

TEST(RunRanks, ARankThatEndsEarlyIsNamed) {
  EXPECT_EQ(MessageOf(2,
                      [](Communicator& comm) {
                        if (comm.rank() == 0) comm.Barrier();
                      }),
            "rank 0 called Barrier after rank 1 had ended.");
}

TEST(RunRanks, CollectivesThatDoNotMatchAreNamed) {
  auto device = NewCpuDevice();
  EXPECT_EQ(MessageOf(2,
                      [&](Communicator& comm) {
                        Tensor t(*device, DType::kF32, {4 + comm.rank()});
                        t.Zero();
                        comm.AllReduce(&t, Reduce::kSum);
                      }),
            "rank 0 called AllReduce (sum) of 4 elements of f32 while rank 1 called AllReduce (sum) of 5 "
            "elements of "
            "f32.");
  EXPECT_EQ(
      MessageOf(2,
                [&](Communicator& comm) {
                  Tensor t(*device, comm.rank() == 0 ? DType::kF32 : DType::kF64, {4});
                  t.Zero();
                  comm.AllReduce(&t, Reduce::kMax);
                }),
      "rank 0 called AllReduce (maximum) of 4 elements of f32 while rank 1 called AllReduce (maximum) of 4 "
      "elements of f64.");
  EXPECT_EQ(MessageOf(3,
                      [&](Communicator& comm) {
                        if (comm.rank() == 2) {
                          comm.AllGatherNumber(7);
                        } else {
                          comm.Barrier();
                        }
                      }),
            "rank 0 called Barrier while rank 2 called AllGatherNumber.");
}

TEST(RunRanks, ArgumentsAreChecked) {
  auto device = NewCpuDevice();
  auto comm = NewSelfCommunicator();
  Tensor bytes(*device, DType::kU8, {3}), mine(*device, DType::kF32, {2, 3}),
      all(*device, DType::kF32, {3, 3}), none;
  EXPECT_THROW(comm->AllReduce(&bytes, Reduce::kSum), Error);
  EXPECT_THROW(comm->AllReduce(&none, Reduce::kSum), Error);
  EXPECT_THROW(comm->AllGather(mine, {2}, &all), Error);
  EXPECT_THROW(comm->AllGather(mine, {3}, &all), Error);
  EXPECT_THROW(comm->AllGather(mine, {2, 1}, &all), Error);
  Tensor part = all.Rows(0, 3);
  EXPECT_THROW(comm->AllGather(part, {3}, &all), Error);
  EXPECT_THROW(comm->Broadcast(&mine, 1), Error);
  EXPECT_THROW(RunRanks(0, [](Communicator&) {}), Error);
}

TEST(RunRanks, APendingSumAppearsAtWait) {
  RunRanks(2, [](Communicator& comm) {
    auto device = NewCpuDevice();
    Tensor t(*device, DType::kI64, {1});
    t.FromHost<int64_t>({5});
    auto pending = comm.StartAllReduce(&t, Reduce::kSum);
    EXPECT_EQ(t.ToHost<int64_t>()[0], 5);
    pending->Wait();
    EXPECT_EQ(t.ToHost<int64_t>()[0], 10);
  });
}

TEST(GpuCommunicator, GivesUpARankThatHangs) {
  if (!TestsRunOnGpu()) GTEST_SKIP() << "the ranks are on the CPU";
  const std::string message = MessageOf(2, [](Communicator& host) {
    const std::unique_ptr<Device> device = NewTestDevice(host.rank());
    const std::unique_ptr<Communicator> gpus = NewGpuCommunicator(host, *device, 0.5);
    Tensor t = RoughNumbers(*device, host.rank(), 10);
    gpus->AllReduce(&t, Reduce::kSum);
    if (host.rank() == 1) host.Barrier();  // until the other gives up
    gpus->AllReduce(&t, Reduce::kSum);
    device->Synchronize();
    gpus->AllReduce(&t, Reduce::kSum);
  });
  EXPECT_NE(message.find(
                "an all-reduce between the GPUs has not ended for 0.5 s: another rank hangs, or has ended"),
            std::string::npos)
      << message;
}

}  // namespace
}  // namespace crema
