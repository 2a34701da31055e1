#include "solver/snapshot.hpp"

#include <fcntl.h>
#include <glog/logging.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "crema/caffe_files.hpp"
#include "crema/io.hpp"
#include "net/hdf5_files.hpp"
#include "solver/agree.hpp"

namespace crema {
namespace {

namespace fs = std::filesystem;

constexpr char kStateSuffix[] = ".solverstate";
constexpr char kHdf5Suffix[] = ".h5";          // behind the suffixes of models and states in that format
constexpr char kUnfinished[] = ".unfinished";  // ends the names of files on their way into place

// A tensor as Caffe writes a history; zeros where it is null.
void SaveHistory(const Param& param, const Tensor* slot, BlobProto* blob) {
  for (int64_t size : param.shape) blob->mutable_shape()->add_dim(size);
  if (slot != nullptr && slot->dtype() == DType::kF64) {
    const std::vector<double> values = slot->ToHost<double>();
    blob->mutable_double_data()->Assign(values.begin(), values.end());
  } else if (slot != nullptr) {
    const std::vector<float> values = slot->ToHost<float>();
    blob->mutable_data()->Assign(values.begin(), values.end());
  } else {
    blob->mutable_data()->Resize(static_cast<int>(CountOf(param.shape)), 0.f);
  }
}

void LoadHistory(const BlobProto& blob, const std::string& where, const Param& param, Tensor* slot) {
  const int64_t found = std::max(blob.data_size(), blob.double_data_size());
  Require(found == CountOf(param.shape), where, " has ", found, " values, but weight '", param.name, "' has ",
          CountOf(param.shape));
  if (slot == nullptr) return;
  ForReal(slot->dtype(), [&]<class T>() {
    slot->FromHost(blob.double_data_size() > 0
                       ? std::vector<T>(blob.double_data().begin(), blob.double_data().end())
                       : std::vector<T>(blob.data().begin(), blob.data().end()));
  });
}

// Caffe's history: slot by slot, in each every param in the net's order. Sharded ones are apart.
template <class F>
void ForHistory(Optimizer* optimizer, const F& f) {
  for (size_t slot = 0; slot < optimizer->slot_names().size(); ++slot) {
    for (Optimizer::State& state : optimizer->states()) {
      if (!state.param->sharded) f(*state.param, state.slots.empty() ? nullptr : &state.slots[slot]);
    }
  }
}

void Rename(const std::string& from, const std::string& to) {
  const bool done = rename(from.c_str(), to.c_str()) == 0;  // before errno is read
  Require(done, "cannot rename '", from, "' to '", to, "': ", std::strerror(errno));
}

void SyncFolder(const fs::path& path) {
  const int fd = open(path.empty() ? "." : path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;  // some file systems cannot open a folder; the renames themselves have happened
  fsync(fd);
  close(fd);
}

void RemoveAll(const std::string& path) {
  std::error_code ignored;  // what cannot be removed stays; the snapshot before it is not touched
  fs::remove_all(path, ignored);
}

// Puts a finished snapshot into place, the state last; an older one of the same name stops being whole first.
void MoveIntoPlace(const SnapshotPaths& paths, bool has_centers) {
  const std::string old = paths.centers + ".old";
  RemoveAll(paths.state);
  RemoveAll(old);
  if (has_centers) {
    if (FileExists(paths.centers)) Rename(paths.centers, old);
    Rename(paths.centers + kUnfinished, paths.centers);
    RemoveAll(old);
  }
  Rename(paths.model + kUnfinished, paths.model);
  SyncFolder(fs::path(paths.model).parent_path());
  Rename(paths.state + kUnfinished, paths.state);
  SyncFolder(fs::path(paths.model).parent_path());
}

std::string WithoutSuffix(const std::string& text, const std::string& suffix) {
  return text.ends_with(suffix) ? text.substr(0, text.size() - suffix.size()) : text;
}

// The snapshots of a prefix that have a state, in either format, the newest first.
std::vector<std::pair<int64_t, SnapshotPaths>> SnapshotsOf(const std::string& prefix) {
  const fs::path folder = fs::path(prefix).parent_path();
  const std::string begin = fs::path(prefix).filename().string() + "_iter_";
  std::vector<std::pair<int64_t, SnapshotPaths>> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder.empty() ? "." : folder, error)) {
    const std::string name = entry.path().filename(), base = WithoutSuffix(name, kHdf5Suffix);
    if (!name.starts_with(begin) || !base.ends_with(kStateSuffix)) continue;
    const std::string number = WithoutSuffix(base, kStateSuffix).substr(begin.size());
    if (number.empty() || number.size() >= 18 ||
        !std::all_of(number.begin(), number.end(), [](char c) { return c >= '0' && c <= '9'; }))
      continue;
    const int64_t iteration = std::stoll(number);
    found.emplace_back(iteration, PathsOfSnapshot(prefix, iteration, IsHdf5Name(name)));
  }
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
  return found;
}

// Removes all but the newest `keep` up to an iteration. Root only.
void RemoveOldSnapshots(const std::string& prefix, int64_t iteration, int64_t keep) {
  if (keep <= 0) return;
  int64_t kept = 0;
  for (const auto& [found, paths] : SnapshotsOf(prefix)) {
    if (found > iteration || kept++ < keep) continue;
    for (const std::string& path : {paths.state, paths.model, paths.centers}) RemoveAll(path);
  }
}

// Whether a folder's files have no other names, a backup's, say.
bool AreOwn(const std::string& folder) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error))
    if (entry.hard_link_count(error) > 1) return false;
  return !error;
}

// Makes the class centres of the oldest snapshot that has to go, where another stays, into the unfinished
// ones of a new one. The former's iteration; -1: there is none. Root only.
int64_t TakeOver(const std::string& prefix, int64_t iteration, const SnapshotsOfRun& run,
                 const std::string& unfinished) {
  const std::vector<std::pair<int64_t, SnapshotPaths>> all = SnapshotsOf(prefix);
  int64_t older = 0;
  for (const auto& [found, paths] : all) older += found < iteration ? 1 : 0;
  if (older < run.keep) return -1;
  const auto& [last, paths] = all.back();
  if (run.centers.count(last) == 0 || !AreOwn(paths.centers)) return -1;
  RemoveAll(paths.state);  // it is no longer whole
  RemoveAll(paths.model);
  Rename(paths.centers, unfinished);
  return last;
}

// Writes the class centres of a snapshot beside their place.
void WriteCentersOf(const Context& ctx, const std::string& prefix, int64_t iteration,
                    const std::string& unfinished, const std::vector<CentersPart>& parts,
                    SnapshotsOfRun* run) {
  if (run->keep < 2 || !CanRewriteCenters(parts)) {
    WriteCenters(ctx, unfinished, iteration, parts, nullptr);
    return;
  }
  int64_t older = -1;
  AgreeOnRoot(ctx, [&] { older = TakeOver(prefix, iteration, *run, unfinished); });
  older = ctx.comm->AllGatherNumber(older)[0];
  const bool known = older >= 0;
  const CentersFolder made =
      WriteCenters(ctx, unfinished, iteration, parts, known ? &run->centers.at(older) : nullptr);
  run->centers.erase(older);
  LOG_IF(INFO, known && ctx.comm->root())
      << "  It takes the place of iteration " << older << "'s: " << made.steps_written << " of " << made.steps
      << " runs of rows have been drawn since, and were written";
  run->centers[iteration] = made;
}

SolverState ReadState(const std::string& path) {
  if (IsHdf5Name(path)) return ReadHdf5State(path);
  SolverState state;
  ReadBinary(path, &state);
  Require(state.has_iter() && state.has_learned_net(), "'", path,
          "' is truncated or not a solverstate: it does not give an iteration and a caffemodel");
  return state;
}

// The caffemodel that a state names; beside the state where the snapshot was moved.
std::string ModelOf(const SolverState& state, const std::string& state_path) {
  if (FileExists(state.learned_net())) return state.learned_net();
  const fs::path beside = fs::path(state_path).parent_path() / fs::path(state.learned_net()).filename();
  Require(fs::exists(beside), "'", state_path, "' names '", state.learned_net(),
          "', which is neither there nor at '", beside.string(), "'");
  return beside;
}

std::string CentersOf(const std::string& state_path) {
  const std::string base = WithoutSuffix(state_path, kHdf5Suffix);
  Require(base.ends_with(kStateSuffix), "'", state_path, "' is not the name of a snapshot, which ends in ",
          kStateSuffix, " or ", kStateSuffix, kHdf5Suffix);
  return WithoutSuffix(base, kStateSuffix) + ".centers";
}

void CheckWhole(const std::string& state_path) {
  const SolverState state = ReadState(state_path);
  ReadWeights(ModelOf(state, state_path));
  if (FileExists(CentersOf(state_path))) CheckCenters(CentersOf(state_path));
}

// A snapshot must have every weight of the net, unlike a file of weights to start from.
void CheckComplete(const NetParameter& model, const std::string& path, const Net& net) {
  for (const auto& layer : net.layers()) {
    const bool needed = std::any_of(layer->params().begin(), layer->params().end(),
                                    [](const auto& param) { return !param->sharded; });
    if (!needed) continue;
    const bool found = std::any_of(
        model.layer().begin(), model.layer().end(),
        [&](const LayerParameter& saved) { return saved.name() == layer->name() && saved.blobs_size() > 0; });
    Require(found, "'", path, "' has no weights for layer '", layer->name(),
            "' of the net; it is truncated or ", "the snapshot of another net");
  }
}

}  // namespace

SnapshotPaths PathsOfSnapshot(const std::string& prefix, int64_t iteration, bool hdf5) {
  const std::string base = Concat(prefix, "_iter_", iteration), format = hdf5 ? kHdf5Suffix : "";
  return {base + ".caffemodel" + format, base + kStateSuffix + format, base + ".centers"};
}

std::string SnapshotPrefix(const SolverParameter& spec, const std::string& solver_file) {
  const fs::path file = solver_file.empty() ? "solver" : solver_file;
  if (spec.snapshot_prefix().empty()) return (file.parent_path() / file.stem()).string();
  if (fs::is_directory(spec.snapshot_prefix()))
    return (fs::path(spec.snapshot_prefix()) / file.stem()).string();
  return spec.snapshot_prefix();
}

void ProbeSnapshotPrefix(const Context& ctx, const std::string& prefix) {
  AgreeOnRoot(ctx, [&] {
    const std::string probe = prefix + "_iter_0.tempfile";
    const int fd = open(probe.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    Require(fd >= 0, "cannot write snapshots to '", prefix, "_iter_N': ", std::strerror(errno),
            "; an existing folder that can be written to was expected");
    close(fd);
    unlink(probe.c_str());
  });
}

std::string WriteSnapshot(const Context& ctx, const std::string& prefix, int64_t iteration,
                          int64_t current_step, const Net& net, Optimizer* optimizer,
                          const LossScale* loss_scale, bool hdf5, SnapshotsOfRun* run) {
  const SnapshotPaths paths = PathsOfSnapshot(prefix, iteration, hdf5);
  const std::vector<CentersPart> parts = ShardedParts(optimizer);
  const bool root = ctx.comm->root();
  try {
    const char* format = hdf5 ? "HDF5" : "binary proto";
    LOG_IF(INFO, root) << "Snapshotting to " << format << " file " << paths.model;
    if (root) RemoveAll(paths.centers + kUnfinished);  // of a run that was killed
    if (!parts.empty()) {
      LOG_IF(INFO, root) << "Snapshotting class centres to folder " << paths.centers;
      WriteCentersOf(ctx, prefix, iteration, paths.centers + kUnfinished, parts, run);
    }
    LOG_IF(INFO, root) << "Snapshotting solver state to " << format << " file " << paths.state;
    AgreeOnRoot(ctx, [&] {
      hdf5 ? WriteHdf5Weights(paths.model + kUnfinished, net.ToProto())
           : WriteBinary(paths.model + kUnfinished, net.ToProto());
      SolverState state;
      state.set_iter(static_cast<int32_t>(iteration));
      state.set_learned_net(paths.model);
      state.set_current_step(static_cast<int32_t>(current_step));
      if (loss_scale != nullptr) {
        state.set_loss_scale(loss_scale->value());
        state.set_loss_scale_iterations(loss_scale->iterations());
      }
      ForHistory(optimizer, [&](const Param& param, const Tensor* slot) {
        SaveHistory(param, slot, state.add_history());
      });
      hdf5 ? WriteHdf5State(paths.state + kUnfinished, state) : WriteBinary(paths.state + kUnfinished, state);
      MoveIntoPlace(paths, !parts.empty());
      RemoveOldSnapshots(prefix, iteration, run->keep);
    });
  } catch (const Error& error) {
    if (root) {
      for (const std::string& path : {paths.model, paths.state, paths.centers}) RemoveAll(path + kUnfinished);
    }
    Fail("the snapshot of iteration ", iteration, " failed: ", error.what());
  }
  return paths.state;
}

std::string LatestSnapshot(const Context& ctx, const std::string& prefix) {
  std::string latest;
  AgreeOnRoot(ctx, [&] {
    for (const auto& [iteration, paths] : SnapshotsOf(prefix)) {
      try {
        CheckWhole(paths.state);
        latest = paths.state;
        return;
      } catch (const Error& error) {
        LOG(WARNING) << "Passing over the snapshot of iteration " << iteration << ": " << error.what();
      }
    }
    Fail("there is no whole snapshot '", prefix, "_iter_N", kStateSuffix, "' to resume from");
  });
  return BroadcastText(ctx, latest, 0);
}

int64_t ReadSnapshot(const Context& ctx, const std::string& state_path, Net* net, Optimizer* optimizer,
                     LossScale* loss_scale) {
  int64_t iteration = 0;
  AgreeOn(ctx, [&] {
    const SolverState state = ReadState(state_path);
    const std::string model_path = ModelOf(state, state_path);
    const NetParameter model = ReadWeights(model_path);
    CheckComplete(model, model_path, *net);
    net->CopyWeights(model, model_path);
    int wanted = 0, next = 0;
    ForHistory(optimizer, [&](const Param&, Tensor*) { ++wanted; });
    Require(state.history_size() == wanted, "'", state_path, "' has ", state.history_size(),
            " histories, but this net and solver have ", wanted);
    ForHistory(optimizer, [&](const Param& param, Tensor* slot) {
      LoadHistory(state.history(next), Concat("history ", next, " in '", state_path, "'"), param, slot);
      ++next;
    });
    iteration = state.iter();
    if (!state.has_loss_scale()) return;
    Require(state.loss_scale() >= 1 && state.loss_scale() <= LossScale::kMost, "'", state_path,
            "' has a loss scale of ", state.loss_scale(), "; expected 1 to ", LossScale::kMost);
    loss_scale->Restore(state.loss_scale(), state.loss_scale_iterations());
  });
  const std::vector<CentersPart> parts = ShardedParts(optimizer);
  if (!parts.empty()) ReadCenters(ctx, CentersOf(state_path), parts);
  return iteration;
}

}  // namespace crema
