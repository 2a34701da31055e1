// Communicators of one rank, of ranks as threads, and of ranks that TCP connects.
#include "crema/comm.hpp"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <thread>

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
            "rank 0 called Barrier while rank 2 called AllGatherNumbers of 1, 1, 1 numbers.");
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

// A port that was free a moment ago.
int FreePort() {
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  socklen_t length = sizeof(address);
  address.sin_family = AF_INET;
  EXPECT_EQ(bind(listener, reinterpret_cast<const sockaddr*>(&address), length), 0);
  EXPECT_EQ(getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length), 0);
  close(listener);
  return ntohs(address.sin_port);
}

// How a rank comes to a job.
struct Arrival {
  int rank = 0, size = 1;
  std::string address = "127.0.0.1";
};

// Runs such ranks as threads, each with connections of its own; their messages, empty for those without one.
std::vector<std::string> MessagesOverTcp(int port, const std::vector<Arrival>& arrivals,
                                         const std::function<void(Communicator&)>& body,
                                         double patience = 20) {
  std::vector<std::string> messages(arrivals.size());
  std::vector<std::thread> threads;
  for (size_t i = 0; i < arrivals.size(); ++i) {
    threads.emplace_back([&, i] {
      const Arrival& it = arrivals[i];
      try {
        body(*NewTcpCommunicator(it.rank, it.size, it.address, port, patience));
      } catch (const Error& error) {
        messages[i] = error.what();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return messages;
}

std::vector<Arrival> AllOf(int size) {
  std::vector<Arrival> arrivals;
  for (int r = 0; r < size; ++r) arrivals.push_back({r, size});
  return arrivals;
}

class RanksOverTcp : public ::testing::TestWithParam<int> {};

TEST_P(RanksOverTcp, EveryCollectiveGivesWhatAPlainLoopGives) {
  const std::vector<std::string> none(static_cast<size_t>(GetParam()));
  EXPECT_EQ(MessagesOverTcp(FreePort(), AllOf(GetParam()), CheckAllCollectives), none);
}

// More than one piece, in numbers whose sum depends on its order.
TEST_P(RanksOverTcp, SumsHaveTheBitsOfRanksAsThreads) {
  const int ranks = GetParam();
  const auto device = NewCpuDevice();
  std::vector<std::vector<float>> sums(2), scattered(2);
  for (size_t way : {size_t{0}, size_t{1}}) {
    const auto body = [&](Communicator& comm) {
      Tensor t = RoughNumbers(*device, comm.rank(), 1000003);
      comm.AllReduce(&t, Reduce::kSum);
      std::vector<int64_t> rows(static_cast<size_t>(ranks), 0);
      rows.back() = 2;
      Tensor all = RoughNumbers(*device, comm.rank(), 1000000).Reshaped({2, 500000});
      Tensor mine(*device, DType::kF32, {comm.rank() == ranks - 1 ? 2 : 0, 500000});
      comm.ReduceScatter(all, rows, &mine);
      if (comm.rank() == ranks - 1) sums[way] = t.ToHost<float>(), scattered[way] = mine.ToHost<float>();
    };
    if (way == 0) RunRanks(ranks, body);
    if (way == 1) MessagesOverTcp(FreePort(), AllOf(ranks), body);
  }
  EXPECT_EQ(sums[0].size(), 1000003u);
  EXPECT_EQ(sums[0], sums[1]);
  EXPECT_EQ(scattered[0].size(), 1000000u);
  EXPECT_EQ(scattered[0], scattered[1]);
}

INSTANTIATE_TEST_SUITE_P(Comm, RanksOverTcp, ::testing::Values(1, 2, 3, 4));

TEST(TcpCommunicator, FindsRankZeroByNameAndIpv6) {
  const int ipv6 = socket(AF_INET6, SOCK_STREAM, 0);
  sockaddr_in6 loopback{};
  loopback.sin6_family = AF_INET6, loopback.sin6_addr = in6addr_loopback;
  const bool has_ipv6 =
      ipv6 >= 0 && bind(ipv6, reinterpret_cast<const sockaddr*>(&loopback), sizeof(loopback)) == 0;
  if (ipv6 >= 0) close(ipv6);
  const std::vector<std::string> none(3);
  EXPECT_EQ(MessagesOverTcp(FreePort(), {{0, 3}, {1, 3, "localhost"}, {2, 3, has_ipv6 ? "::1" : "127.0.0.1"}},
                            CheckNumbers),
            none);
}

TEST(TcpCommunicator, ARankThatComesLateIsWaitedFor) {
  const int port = FreePort();
  const std::vector<std::string> none(2);
  std::vector<std::string> messages(2);
  std::thread early([&] { messages[1] = MessagesOverTcp(port, {{1, 2}}, CheckNumbers)[0]; });
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  messages[0] = MessagesOverTcp(port, {{0, 2}}, CheckNumbers)[0];
  early.join();
  EXPECT_EQ(messages, none);
}

TEST(TcpCommunicator, NobodyThereIsSaid) {
  const int port = FreePort();
  EXPECT_EQ(MessagesOverTcp(port, {{1, 2}}, CheckNumbers, 0.5)[0],
            Concat("rank 1 has not found rank 0 of its job of 2 at 127.0.0.1 (MASTER_ADDR), port ", port,
                   " (MASTER_PORT), for 0.5 s: Connection refused; expected rank 0 to listen there"));
  const std::string missing = Concat("rank 0 has waited on port ", port,
                                     " for 0.5 s for rank 1, 3; expected 4 processes in all (WORLD_SIZE), "
                                     "each with another RANK");
  EXPECT_EQ(MessagesOverTcp(port, {{0, 4}, {2, 4}}, CheckNumbers, 0.5),
            std::vector<std::string>({missing, missing}));
}

TEST(TcpCommunicator, RanksThatDoNotFitAreSaidToAll) {
  const int port = FreePort();
  const std::string size =
      Concat("rank 1 of a job of 3 came to port ", port,
             ", where rank 0 of a job of 2 listens; expected the same WORLD_SIZE on all ranks, and another "
             "MASTER_PORT for each job");
  EXPECT_EQ(MessagesOverTcp(port, {{0, 2}, {1, 3}}, CheckNumbers), std::vector<std::string>({size, size}));
  const std::string twice =
      Concat("two processes came as rank 1 to port ", port, "; expected another RANK for each");
  EXPECT_EQ(MessagesOverTcp(port, {{0, 3}, {1, 3}, {1, 3}}, CheckNumbers),
            std::vector<std::string>({twice, twice, twice}));
  const std::vector<std::string> roots = MessagesOverTcp(port, {{0, 2}, {0, 2}}, CheckNumbers, 1);
  EXPECT_TRUE(std::any_of(
      roots.begin(), roots.end(),
      [&](const std::string& message) {
        return message ==
               Concat("rank 0 cannot listen on port ", port,
                      ": Address already in use; expected a port that no other program has, the same "
                      "on all ranks");
      }))
      << roots[0] << "\n"
      << roots[1];
}

TEST(TcpCommunicator, AStrangerAtThePortIsNoRank) {
  const int port = FreePort();
  std::vector<std::string> messages;
  std::thread job([&] { messages = MessagesOverTcp(port, {{0, 2}}, CheckNumbers); });
  sockaddr_in address{};
  address.sin_family = AF_INET, address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  const std::string words = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
  int connected = -1, stranger = -1;
  while (connected != 0) {  // rank 0 may not listen yet
    if (stranger >= 0) close(stranger);
    stranger = socket(AF_INET, SOCK_STREAM, 0);
    connected = connect(stranger, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  }
  EXPECT_EQ(write(stranger, words.data(), words.size()), static_cast<ssize_t>(words.size()));
  EXPECT_EQ(MessagesOverTcp(port, {{1, 2}}, CheckNumbers)[0], "");
  job.join();
  close(stranger);
  EXPECT_EQ(messages[0], "");
}

TEST(TcpCommunicator, AFailureAndAbortReachAll) {
  const std::vector<std::string> failed = MessagesOverTcp(FreePort(), AllOf(3), [](Communicator& comm) {
    comm.Barrier();
    if (comm.rank() == 1) return comm.Abort("the disk is full.");
    for (;;) comm.Barrier();
  });
  EXPECT_EQ(failed, std::vector<std::string>(
                        {"rank 1 failed: the disk is full.", "", "rank 1 failed: the disk is full."}));
  const std::vector<std::string> root = MessagesOverTcp(FreePort(), AllOf(3), [](Communicator& comm) {
    if (comm.rank() == 0) throw Error("no memory.");
    for (;;) comm.AllGatherNumber(1);
  });
  EXPECT_EQ(root,
            std::vector<std::string>({"no memory.", "rank 0 failed: rank 0 was stopped by an exception.",
                                      "rank 0 failed: rank 0 was stopped by an exception."}));
}

// As the watch over GPUs does.
TEST(TcpCommunicator, AbortOfAnotherThreadEndsACollectiveUnderWay) {
  const std::vector<std::string> messages = MessagesOverTcp(FreePort(), AllOf(3), [](Communicator& comm) {
    if (comm.rank() == 1) {  // hangs until the others have given up
      while (comm.Trouble().empty()) std::this_thread::sleep_for(std::chrono::milliseconds(10));
      Fail(comm.Trouble());
    }
    std::thread watch;
    if (comm.rank() == 2)
      watch = std::thread([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(300));
        comm.Abort("enough.");
      });
    try {
      comm.Barrier();
    } catch (const Error&) {
      if (watch.joinable()) watch.join();
      throw;
    }
  });
  EXPECT_EQ(messages, std::vector<std::string>(
                          {"rank 2 failed: enough.", "rank 2 failed: enough.", "rank 2 has ended the job."}));
}

TEST(TcpCommunicator, CollectivesThatDoNotMatchAreNamed) {
  const auto device = NewCpuDevice();
  const std::vector<std::string> messages = MessagesOverTcp(FreePort(), AllOf(3), [&](Communicator& comm) {
    Tensor t(*device, DType::kF32, {4000000 + comm.rank() / 2});
    t.Zero();
    comm.AllReduce(&t, Reduce::kSum);
  });
  const std::string message =
      "rank 0 called AllReduce (sum) of 4000000 elements of f32 while rank 2 called AllReduce (sum) of "
      "4000001 "
      "elements of f32.";
  EXPECT_EQ(messages, std::vector<std::string>({message, message, message}));
}

// Rank 2 is a process that dies without a word, while rank 1 keeps rank 0 waiting.
TEST(TcpCommunicator, ARankThatDiesIsNamed) {
  const int port = FreePort();
  const pid_t child = fork();
  if (child == 0) {
    const std::unique_ptr<Communicator> comm = NewTcpCommunicator(2, 3, "127.0.0.1", port);
    comm->Barrier();
    raise(SIGKILL);
  }
  const std::string gone = "rank 2 is gone: its connection has ended, as it does when a process is killed";
  EXPECT_EQ(MessagesOverTcp(port, {{0, 3}, {1, 3}},
                            [](Communicator& comm) {
                              comm.Barrier();
                              while (comm.rank() == 1 && comm.Trouble().empty()) {}
                              for (;;) comm.Barrier();
                            }),
            std::vector<std::string>({gone, gone}));
  waitpid(child, nullptr, 0);
}

TEST(TcpCommunicator, TheEnvironmentSaysWhoARankIs) {
  const auto set = [](const char* rank, const char* size, const char* address, const char* port) {
    for (const auto& [name, text] :
         {std::pair{"RANK", rank}, {"WORLD_SIZE", size}, {"MASTER_ADDR", address}, {"MASTER_PORT", port}})
      text == nullptr ? unsetenv(name) : setenv(name, text, 1);
  };
  const auto message = [&] {
    try {
      return std::string(IsTcpRank() ? "yes" : "no");
    } catch (const Error& error) {
      return std::string(error.what());
    }
  };
  set(nullptr, nullptr, nullptr, nullptr);
  EXPECT_EQ(message(), "no");
  set(nullptr, nullptr, "host", "1");
  EXPECT_EQ(message(), "no");
  set("3", nullptr, nullptr, nullptr);
  EXPECT_EQ(message(), "no");
  set("0", "1", "host", "29500");
  EXPECT_EQ(message(), "no");
  set("1", "2", "host", "29500");
  EXPECT_EQ(message(), "yes");
  setenv("PMIX_RANK", "0", 1);
  EXPECT_EQ(message(), "no");
  unsetenv("PMIX_RANK");
  set("2", "2", "host", "29500");
  EXPECT_EQ(message(), "the environment variable RANK is \"2\"; expected a number from 0 to 1");
  set("1", "two", "host", "29500");
  EXPECT_EQ(message(), "the environment variable WORLD_SIZE is \"two\"; expected a number from 1 to 100000");
  set("1", "2", "host", "70000");
  EXPECT_EQ(message(),
            "the environment variable MASTER_PORT is \"70000\"; expected a number from 1 to 65535");
  set("1", "2", nullptr, "29500");
  EXPECT_EQ(
      message(),
      "the environment lacks MASTER_ADDR; expected all of RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, "
      "or none");
  set(nullptr, nullptr, nullptr, nullptr);
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
