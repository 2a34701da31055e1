// Snapshots: exact resume, on other numbers of ranks too, and what happens to damaged files and full disks.
#include "solver/snapshot.hpp"
#include "solver/center_files.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <fstream>

#include "solver_fixtures.hpp"
#include "test_place.hpp"

namespace crema {
namespace {

using testing::HasSubstr;
namespace fs = std::filesystem;

SolverParameter Spec(const TempFolder& folder, int ranks, const std::string& rule,
                     const std::string& more = "") {
  SolverParameter spec;
  ParseText(
      "base_lr: 0.05 lr_policy: 'multistep' gamma: 0.5 stepvalue: 2 stepvalue: 5 weight_decay: 0.001 "
      "max_iter: 100 random_seed: 3 snapshot_prefix: '" +
          folder / "run" + "' " + rule + " " + more,
      "test", &spec);
  ParseText(RecogniserNet(kGlobalBatch / ranks), "test net", spec.mutable_net_param());
  return spec;
}

// With further fields of dist_partial_fc_param.
SolverParameter WithHead(SolverParameter spec, const std::string& head) {
  for (LayerParameter& layer : *spec.mutable_net_param()->mutable_layer()) {
    if (layer.type() != "DistPartialFC") continue;
    DistPartialFCParameter more;
    ParseText(head, "test head", &more);
    layer.mutable_dist_partial_fc_param()->MergeFrom(more);
  }
  return spec;
}

const char* const kSgd = "momentum: 0.9";

SolverOptions From(const std::string& snapshot) {
  SolverOptions options;
  options.snapshot = snapshot;
  return options;
}

// A run's snapshot after so many iterations, resumed from `snapshot` where that is given.
std::string TrainRun(const TempFolder& folder, int ranks, const std::string& rule, int64_t iterations,
                     const std::string& snapshot = "", const std::string& head = "") {
  std::string path;
  RunRanks(ranks, [&](Communicator& comm) {
    TestPlace work(comm);
    Solver solver(work, WithHead(Spec(folder, ranks, rule), head), From(snapshot));
    Train(&solver, comm, iterations - solver.iteration());
    const std::string written = solver.Snapshot();
    if (comm.root()) path = written;
  });
  return path;
}

// All files of a snapshot, but for the path of the model in the state.
std::map<std::string, std::string> Contents(const std::string& state_path) {
  std::map<std::string, std::string> contents;
  SolverState state;
  ReadBinary(state_path, &state);
  contents["model"] = ReadFile(state.learned_net());
  state.clear_learned_net();
  contents["state"] = state.SerializeAsString();
  const std::string centers = fs::path(state_path).replace_extension(".centers");
  for (const auto& entry : fs::directory_iterator(centers))
    contents[entry.path().filename()] = ReadFile(entry.path());
  return contents;
}

struct RuleAndHead {
  const char *rule, *head;
};
class EveryRule : public testing::TestWithParam<RuleAndHead> {};

TEST_P(EveryRule, ResumesBitForBit) {
  for (const int ranks : {1, 2}) {
    TempFolder whole, parts;
    const auto [rule, head] = GetParam();
    // Both save after 4: where rows are left for later, that is when they catch up.
    const std::string saving = Concat(rule, " snapshot: 4");
    const auto wanted = Contents(TrainRun(whole, ranks, saving, 8, "", head));
    const std::string half = TrainRun(parts, ranks, saving, 4, "", head);
    const auto found = Contents(TrainRun(parts, ranks, saving, 8, half, head));
    ASSERT_EQ(found.size(), wanted.size());
    for (const auto& [name, bytes] : wanted)
      EXPECT_TRUE(found.at(name) == bytes) << name << ", ranks: " << ranks;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Snapshot, EveryRule,
    testing::Values(RuleAndHead{"momentum: 0.9", ""}, RuleAndHead{"type: 'Adam' momentum: 0.9", ""},
                    RuleAndHead{"type: 'RMSProp'", "update: ALL_ROWS"},
                    RuleAndHead{"momentum: 0.9", "sample_rate: 0.3 update: ALL_ROWS"},
                    RuleAndHead{"momentum: 0.9", "precision: BF16 update: ALL_ROWS"},
                    RuleAndHead{"type: 'AdamW' momentum: 0.9",
                                TestsRunOnGpu() ? "precision: BF16 storage: HOST"
                                                : "precision: BF16 storage: FILE storage_dir: '/tmp'"}),
    [](const auto& test) { return Concat("rule", test.index); });

// What 3 ranks wrote is read by 1, 2 and 4 and written again unchanged, checksums apart.
TEST(Snapshot, OtherNumbersOfRanks) {
  TempFolder first;
  const std::string written = TrainRun(first, 3, kSgd, 3);
  const auto wanted = Contents(written);
  EXPECT_EQ(wanted.count("classes.0.weight.f32"), 1u);
  EXPECT_EQ(wanted.at("classes.0.momentum.f32").size(), static_cast<size_t>(kClasses * 5 * 4));
  for (const int ranks : {1, 2, 4}) {
    TempFolder folder;
    const auto found = Contents(TrainRun(folder, ranks, kSgd, 3, written));
    for (const auto& [name, bytes] : wanted) {
      if (name == "classes.0.txt" || name == "model") continue;  // blocks of rows; batch sizes
      EXPECT_TRUE(found.at(name) == bytes) << name << " on " << ranks;
    }
  }
}

// Centres of one precision are read as another: what is exact in both stays as it was.
TEST(Snapshot, OtherPrecisions) {
  TempFolder first, second, third;
  const std::string narrow = TrainRun(first, 2, kSgd, 3, "", "precision: BF16");
  EXPECT_EQ(Contents(narrow).at("classes.0.weight.bf16").size(), static_cast<size_t>(kClasses * 5 * 2));
  const std::string wide = TrainRun(second, 3, kSgd, 3, narrow);
  const std::string again = TrainRun(third, 1, kSgd, 3, wide, "precision: BF16");
  for (const char* name : {"classes.0.weight.bf16", "classes.0.momentum.bf16"})
    EXPECT_TRUE(Contents(again).at(name) == Contents(narrow).at(name)) << name;
}

// Centres whose identities are in order are read by a run that has given them other rows, and the other way
// round.
TEST(Snapshot, OtherAssignments) {
  TempFolder first, second, third;
  const std::string ordered = TrainRun(first, 2, kSgd, 3);
  const std::string blocks = TrainRun(second, 3, kSgd, 3, ordered, "draw: BLOCKS");
  const std::string again = TrainRun(third, 2, kSgd, 3, blocks);
  EXPECT_FALSE(Contents(blocks).at("classes.0.weight.f32") == Contents(ordered).at("classes.0.weight.f32"));
  EXPECT_THAT(Contents(blocks).at("classes.0.txt"), HasSubstr("assignment"));
  for (const char* name : {"classes.0.weight.f32", "classes.0.momentum.f32"})
    EXPECT_TRUE(Contents(again).at(name) == Contents(ordered).at(name)) << name;
}

TEST(Snapshot, DamagedFilesAreNamed) {
  TempFolder folder;
  const std::string state = TrainRun(folder, 1, kSgd, 2);
  const SnapshotPaths paths = PathsOfSnapshot(folder / "run", 2);
  EXPECT_EQ(state, paths.state);
  const auto resume = [&] { return MessageOf([&] { TrainRun(folder, 1, kSgd, 2, state); }); };
  EXPECT_EQ(resume(), "");
  const std::string weight = paths.centers + "/classes.0.weight.f32";
  const std::string last_drawn = paths.centers + "/classes.0.last_drawn.i32";
  for (const std::string& path : {paths.state, paths.model, weight, last_drawn}) {
    const std::string bytes = ReadFile(path);
    for (const size_t size : {bytes.size() / 2, bytes.size() - 1, size_t{0}}) {
      WriteFile(path, bytes.substr(0, size));
      EXPECT_THAT(resume(), HasSubstr(path)) << size << " of " << bytes.size();
    }
    fs::remove(path);
    EXPECT_THAT(resume(), HasSubstr(path));
    WriteFile(path, bytes);
  }
  std::string bytes = ReadFile(weight);
  bytes[17] ^= 1;
  WriteFile(weight, bytes);
  EXPECT_THAT(resume(), HasSubstr("checksum"));
  EXPECT_THAT(MessageOf([&] { TrainRun(folder, 2, kSgd, 2, state); }), HasSubstr("checksum"));
}

TEST(Snapshot, OfAnotherNetOrRule) {
  TempFolder folder;
  const std::string state = TrainRun(folder, 1, kSgd, 1);
  EXPECT_THAT(MessageOf([&] { TrainRun(folder, 1, "type: 'Adam' momentum: 0.9", 2, state); }),
              HasSubstr("histories"));
  TestPlace work;
  SolverParameter spec = Spec(folder, 1, kSgd);
  spec.mutable_net_param()->mutable_layer(3)->mutable_dist_partial_fc_param()->set_num_output(8);
  EXPECT_THAT(MessageOf([&] { Solver solver(work, spec, From(state)); }), HasSubstr("has 7 rows"));
  spec = Spec(folder, 1, kSgd);
  spec.mutable_net_param()->mutable_layer(1)->set_name("fc2");
  EXPECT_THAT(MessageOf([&] { Solver solver(work, spec, From(state)); }), HasSubstr("fc2"));
}

TEST(Snapshot, LatestPassesOverBrokenOnes) {
  TempFolder folder;
  EXPECT_THAT(MessageOf([&] { TrainRun(folder, 1, kSgd, 2, "latest"); }), HasSubstr("no whole snapshot"));
  for (const int64_t iterations : {2, 9, 10}) TrainRun(folder, 1, kSgd, iterations);
  const auto resumed_at = [&](int ranks) {
    int64_t iteration = 0;
    RunRanks(ranks, [&](Communicator& comm) {
      TestPlace work(comm);
      Solver solver(work, Spec(folder, ranks, kSgd), From("latest"));
      if (comm.root()) iteration = solver.iteration();
    });
    return iteration;
  };
  EXPECT_EQ(resumed_at(2), 10);
  fs::resize_file(PathsOfSnapshot(folder / "run", 10).model, 100);
  EXPECT_EQ(resumed_at(2), 9);
  fs::resize_file(PathsOfSnapshot(folder / "run", 9).centers + "/classes.0.momentum.f32", 8);
  EXPECT_EQ(resumed_at(1), 2);
  fs::remove(PathsOfSnapshot(folder / "run", 2).state);  // killed before the last rename
  EXPECT_THAT(MessageOf([&] { resumed_at(1); }), HasSubstr("no whole snapshot"));
}

TEST(Snapshot, KeepsTheNewest) {
  TempFolder folder;
  WriteFile(folder / "run_iter_1.solverstate.bak", "not ours");
  WriteFile(folder / "other_iter_1.solverstate", "not ours");
  TestPlace work;
  const auto comm = NewSelfCommunicator();
  Solver solver(work, Spec(folder, 1, kSgd, "snapshot: 1 snapshot_keep: 2"));
  Train(&solver, *comm, 4);
  for (const int64_t iteration : {1, 2, 3, 4}) {
    const SnapshotPaths paths = PathsOfSnapshot(folder / "run", iteration);
    for (const std::string& path : {paths.state, paths.model, paths.centers})
      EXPECT_EQ(FileExists(path), iteration > 2) << path;
  }
  EXPECT_TRUE(FileExists(folder / "run_iter_1.solverstate.bak"));
  EXPECT_TRUE(FileExists(folder / "other_iter_1.solverstate"));
}

// Class centres in a file: the snapshot that has to go becomes the new one, unless a backup shares its files.
TEST(Snapshot, TakesTheOldestOnesPlace) {
  if (TestsRunOnGpu()) GTEST_SKIP() << "centres lie in files on CPUs alone";
  TempFolder folder, other;
  const std::string head = Concat("sample_rate: 0.1 storage: FILE storage_dir: '", folder.path(), "'");
  const auto rows_of = [](const TempFolder& of, int64_t iteration) {
    return PathsOfSnapshot(of / "run", iteration).centers + "/classes.0.weight.f32";
  };
  const auto inode = [](const std::string& path) {
    struct stat found {};
    EXPECT_EQ(stat(path.c_str(), &found), 0) << path;
    return found.st_ino;
  };
  TestPlace work;
  const auto comm = NewSelfCommunicator();
  Solver solver(work, WithHead(Spec(folder, 1, kSgd, "snapshot: 1 snapshot_keep: 2"), head));
  Train(&solver, *comm, 2);
  const auto first = inode(rows_of(folder, 1));
  Train(&solver, *comm, 1);
  EXPECT_EQ(inode(rows_of(folder, 3)), first);
  fs::create_hard_link(rows_of(folder, 2), folder / "backup");
  const std::string saved = ReadFile(folder / "backup");
  Train(&solver, *comm, 1);
  EXPECT_NE(inode(rows_of(folder, 4)), inode(folder / "backup"));
  EXPECT_TRUE(ReadFile(folder / "backup") == saved);
  for (const int64_t iteration : {1, 2, 3, 4})
    EXPECT_EQ(FileExists(PathsOfSnapshot(folder / "run", iteration).state), iteration > 2);

  Solver whole(work, WithHead(Spec(other, 1, kSgd, "snapshot: 1"), head));
  Train(&whole, *comm, 4);
  for (const int64_t iteration : {3, 4})
    EXPECT_TRUE(Contents(PathsOfSnapshot(folder / "run", iteration).state) ==
                Contents(PathsOfSnapshot(other / "run", iteration).state));
}

// A limit on the size of files stands for the full disk: the write fails halfway.
TEST(Snapshot, FullDisk) {
  TempFolder folder;
  TestPlace work;
  const auto comm = NewSelfCommunicator();
  Solver solver(work, Spec(folder, 1, kSgd));
  Train(&solver, *comm, 1);
  const std::string good = solver.Snapshot();
  const auto before = Contents(good);
  Train(&solver, *comm, 1);
  signal(SIGXFSZ, SIG_IGN);
  rlimit unlimited;
  getrlimit(RLIMIT_FSIZE, &unlimited);
  for (const rlim_t limit : {0, 100, 150, 400}) {
    rlimit small = unlimited;
    small.rlim_cur = limit;
    setrlimit(RLIMIT_FSIZE, &small);
    const std::string message = MessageOf([&] { solver.Snapshot(); });
    setrlimit(RLIMIT_FSIZE, &unlimited);
    EXPECT_THAT(message, HasSubstr("the snapshot of iteration 2 failed: cannot")) << limit;
    EXPECT_THAT(message, HasSubstr("File too large")) << limit;
  }
  signal(SIGXFSZ, SIG_DFL);
  EXPECT_TRUE(Contents(good) == before);
  for (const auto& entry : fs::directory_iterator(folder.path()))
    EXPECT_THAT(entry.path().filename().string(), HasSubstr("run_iter_1."));
  EXPECT_EQ(solver.Snapshot(), PathsOfSnapshot(folder / "run", 2).state);
}

TEST(Snapshot, Prefix) {
  TempFolder folder;
  SolverParameter spec;
  EXPECT_EQ(SnapshotPrefix(spec, "nets/face_solver.prototxt"), "nets/face_solver");
  spec.set_snapshot_prefix(folder.path());
  EXPECT_EQ(SnapshotPrefix(spec, "nets/face_solver.prototxt"), folder / "face_solver");
  spec.set_snapshot_prefix("runs/a");
  EXPECT_EQ(SnapshotPrefix(spec, "nets/face_solver.prototxt"), "runs/a");
  TestPlace work;
  spec = Spec(folder, 1, kSgd, "snapshot: 1");
  spec.set_snapshot_prefix(folder / "absent/run");
  EXPECT_THAT(MessageOf([&] { Solver solver(work, spec); }), HasSubstr("cannot write snapshots"));
}

// docs/formats.md: a folder that a script wrote, without checksums, is read through --weights.
TEST(Snapshot, CentersWrittenByHand) {
  TempFolder folder;
  MakeDirectories(folder / "mine");
  std::vector<float> values(kClasses * 5);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  std::ofstream(folder / "mine/classes.0.weight.f32", std::ios::binary)
      .write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(values.size() * 4));
  std::ofstream(folder / "mine/classes.0.txt") << "rows: 7\ndim: 5\nquantity: \"weight\"\n";
  std::ofstream(folder / "mine/other.0.txt") << "rows: 1\ndim: 1\nquantity: \"weight\"\n";
  RunRanks(2, [&](Communicator& comm) {
    TestPlace work(comm);
    SolverOptions options;
    options.weights = {folder / "mine"};
    Solver solver(work, Spec(folder, 2, kSgd), options);
    const Param& param = solver.net().layer("classes")->param(0);
    const std::vector<float> found = param.value.ToHost<float>();
    for (size_t i = 0; i < found.size(); ++i)
      EXPECT_EQ(found[i], values[static_cast<size_t>(param.first_row * 5) + i]);
  });
}

TEST(Checksum, KnownValues) {
  EXPECT_EQ(Checksum("123456789", 9), 0xCBF43926u);  // the check value of CRC-32/ISO-HDLC
  EXPECT_EQ(Checksum("", 0), 0u);
  const std::string text = "The quick brown fox jumps over the lazy dog";
  const uint32_t whole = 0x414FA339u, first = Checksum(text.data(), 11);
  const int64_t size = static_cast<int64_t>(text.size());
  EXPECT_EQ(Checksum(text.data(), size), whole);
  EXPECT_EQ(Checksum(text.data() + 11, size - 11, first), whole);
  EXPECT_EQ(JoinChecksums(first, Checksum(text.data() + 11, size - 11), size - 11), whole);
}

}  // namespace
}  // namespace crema
