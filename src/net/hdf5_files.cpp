#include "net/hdf5_files.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <numeric>

#include "base/hdf5_file.hpp"

namespace crema {
namespace {

void ReadBlob(const Hdf5File& file, const std::string& name, BlobProto* blob) {
  for (int64_t size : file.Shape(name)) blob->mutable_shape()->add_dim(size);
  if (file.IsDouble(name)) {
    const std::vector<double> values = file.Doubles(name);
    blob->mutable_double_data()->Assign(values.begin(), values.end());
  } else {
    const std::vector<float> values = file.Floats(name);
    blob->mutable_data()->Assign(values.begin(), values.end());
  }
}

void WriteBlob(const BlobProto& blob, const std::string& name, Hdf5File* file) {
  const std::vector<int64_t> shape(blob.shape().dim().begin(), blob.shape().dim().end());
  if (blob.double_data_size() > 0) {
    file->Write(name, shape, blob.double_data().data());
  } else {
    file->Write(name, shape, blob.data().data());
  }
}

// A group that holds datasets "0", "1", ...: a layer. Names with slashes are groups in groups.
void ReadLayers(const Hdf5File& file, const std::string& group, const std::string& layer, NetParameter* net) {
  const std::vector<std::string> names = file.Names(group);
  const auto is_blob = [&](const std::string& name) { return !file.IsGroup(group + "/" + name); };
  const int64_t blobs = std::count_if(names.begin(), names.end(), is_blob);
  if (blobs > 0) {
    LayerParameter* out = net->add_layer();
    out->set_name(layer);
    for (int64_t i = 0; i < blobs; ++i) {
      const std::string name = Concat(group, "/", i);
      Require(file.Has(name), "'", file.path(), "' has ", blobs, " weights of layer '", layer, "', but no '",
              name, "'");
      ReadBlob(file, name, out->add_blobs());
    }
  }
  for (const std::string& name : names) {
    if (!is_blob(name)) ReadLayers(file, group + "/" + name, layer.empty() ? name : layer + "/" + name, net);
  }
}

// HDF5's library buffers; what it wrote is safe only now.
void Sync(const std::string& path) {
  const int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  const bool done = fd >= 0 && fsync(fd) == 0;
  const int reason = errno;
  if (fd >= 0) close(fd);
  Require(done, "cannot write '", path, "' to disk: ", std::strerror(reason));
}

}  // namespace

bool IsHdf5Name(const std::string& path) {
  return path.ends_with(".h5");
}

NetParameter ReadHdf5Weights(const std::string& path) {
  const Hdf5File file(path, Hdf5File::Mode::kRead);
  Require(file.Has("data"), "'", path, "' has no group 'data': it holds no weights of a net");
  NetParameter net;
  ReadLayers(file, "data", "", &net);
  return net;
}

void WriteHdf5Weights(const std::string& path, const NetParameter& net) {
  {
    Hdf5File file(path, Hdf5File::Mode::kCreate);
    for (const LayerParameter& layer : net.layer()) {
      for (int i = 0; i < layer.blobs_size(); ++i)
        WriteBlob(layer.blobs(i), Concat("data/", layer.name(), "/", i), &file);
    }
    file.Flush();
  }
  Sync(path);
}

SolverState ReadHdf5State(const std::string& path) {
  const Hdf5File file(path, Hdf5File::Mode::kRead);
  for (const char* name : {"iter", "current_step", "learned_net", "history"})
    Require(file.Has(name), "'", path, "' has no '", name, "': it is no solverstate");
  SolverState state;
  state.set_iter(static_cast<int32_t>(file.Doubles("iter").at(0)));
  state.set_current_step(static_cast<int32_t>(file.Doubles("current_step").at(0)));
  state.set_learned_net(file.Text("learned_net"));
  if (file.Has("loss_scale") && file.Has("loss_scale_iterations")) {
    state.set_loss_scale(file.Doubles("loss_scale").at(0));
    state.set_loss_scale_iterations(static_cast<int64_t>(file.Doubles("loss_scale_iterations").at(0)));
  }
  const size_t histories = file.Names("history").size();
  for (size_t i = 0; i < histories; ++i) ReadBlob(file, Concat("history/", i), state.add_history());
  return state;
}

void WriteHdf5State(const std::string& path, const SolverState& state) {
  {
    Hdf5File file(path, Hdf5File::Mode::kCreate);
    file.WriteInteger("iter", state.iter());
    file.WriteText("learned_net", state.learned_net());
    file.WriteInteger("current_step", state.current_step());
    if (state.has_loss_scale()) {
      file.WriteInteger("loss_scale", static_cast<int32_t>(state.loss_scale()));
      file.WriteInteger("loss_scale_iterations", static_cast<int32_t>(state.loss_scale_iterations()));
    }
    file.MakeGroup("history");
    for (int i = 0; i < state.history_size(); ++i) WriteBlob(state.history(i), Concat("history/", i), &file);
    file.Flush();
  }
  Sync(path);
}

}  // namespace crema
