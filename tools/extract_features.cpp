// Runs a net and writes some of its blobs to databases: a Datum of numbers for each sample.
#include <algorithm>

#include "crema/caffe_files.hpp"
#include "crema/net.hpp"
#include "data/lmdb_writer.hpp"
#include "gpu_flag.hpp"
#include "net/weight_files.hpp"
#include "tool.hpp"

DEFINE_bool(lenient, false, "Skip fields of the net that Crema does not know, each with a warning.");

namespace {

using namespace crema;

constexpr char kUsage[] =
    "extract_features WEIGHTS NET BLOB[,BLOB] DB[,DB] BATCHES lmdb [CPU|GPU] [GPU's number]";

struct Arguments {
  std::string weights, net;
  std::vector<std::string> blobs, databases;
  int batches = 0;
  std::string gpu;  // empty: the CPU
};

Arguments ArgumentsOf(int argc, char** argv) {
  Arguments arguments{argv[1], argv[2], SplitAt(',', argv[3]), SplitAt(',', argv[4]), 0, ""};
  Require(arguments.blobs.size() == arguments.databases.size(), "there are ", arguments.blobs.size(),
          " blobs and ", arguments.databases.size(), " databases where one for each was expected");
  for (const std::string& database : arguments.databases)
    Require(std::count(arguments.databases.begin(), arguments.databases.end(), database) == 1,
            "the database ", database, " is named twice; expected one for each blob");
  const std::string batches = argv[5], format = argv[6], device = argc > 7 ? argv[7] : "CPU";
  const bool is_number = batches.size() < 9 && batches.find_first_not_of("0123456789") == std::string::npos;
  Require(is_number && std::atoi(batches.c_str()) > 0, "the number of batches is '", batches,
          "' where 1 or more was expected");
  arguments.batches = std::atoi(batches.c_str());
  Require(format == "lmdb", "the format of the database is '", format, "' where lmdb was expected");
  Require(device == "CPU" || device == "GPU", "the device is '", device, "' where CPU or GPU was expected");
  if (device == "GPU") arguments.gpu = argc > 8 ? argv[8] : "0";
  return arguments;
}

// The blob's values in Caffe's order, one record for each index of axis 0; further axes as Caffe's channels,
// height and width.
void PutSamples(const Net& net, const std::string& name, int64_t* count, LmdbWriter* writer) {
  const Shape& shape = net.blob(name).shape();
  const int64_t samples = shape.empty() ? 1 : shape[0];
  Require(shape.size() <= 4, "blob '", name, "' of shape ", ToString(shape), " has more than four axes");
  const auto size = [&](size_t axis) { return axis < shape.size() ? static_cast<int>(shape[axis]) : 1; };
  const std::vector<float> values = net.BlobValues(name);
  const int64_t length = static_cast<int64_t>(values.size()) / std::max<int64_t>(samples, 1);
  for (int64_t n = 0; n < samples; ++n) {
    Datum datum;
    datum.set_channels(size(1));
    datum.set_height(size(2));
    datum.set_width(size(3));
    datum.mutable_float_data()->Add(values.begin() + n * length, values.begin() + (n + 1) * length);
    std::string key = std::to_string((*count)++);
    if (key.size() < 10) key.insert(0, 10 - key.size(), '0');
    writer->Put(std::move(key), datum.SerializeAsString());
  }
}

int Run(const Arguments& arguments) {
  const std::unique_ptr<Communicator> alone = NewSelfCommunicator();
  const std::unique_ptr<Workplace> place = NewWorkplace(*alone, arguments.gpu);
  Context& ctx = *place;
  NetParameter spec = ReadNet(arguments.net, {.lenient = FLAGS_lenient});
  spec.set_fuse(false);  // so that every blob is there
  Net net(ctx, spec, {.phase = TEST, .keep_blobs = true});
  for (const std::string& name : CopyFittingWeights(ReadWeights(arguments.weights), arguments.weights, &net))
    LOG(INFO) << "Ignoring source layer " << name;
  for (const std::string& blob : arguments.blobs)
    Require(net.has_blob(blob), "the net ", arguments.net, " has no blob '", blob, "' in the TEST phase");
  std::vector<std::unique_ptr<LmdbWriter>> writers;
  for (const std::string& path : arguments.databases) writers.push_back(std::make_unique<LmdbWriter>(path));
  std::vector<int64_t> counts(writers.size(), 0);
  LOG(INFO) << "Extracting Features";
  for (int batch = 0; batch < arguments.batches; ++batch) {
    ctx.pass = batch;
    net.Forward(ctx);
    for (size_t i = 0; i < writers.size(); ++i)
      PutSamples(net, arguments.blobs[i], &counts[i], writers[i].get());
  }
  for (size_t i = 0; i < writers.size(); ++i) {
    writers[i]->Finish();
    LOG(INFO) << "Extracted features of " << counts[i] << " query images for feature blob "
              << arguments.blobs[i];
  }
  LOG(INFO) << "Successfully extracted the features!";
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  StartTool(&argc, &argv, kUsage);
  if (argc < 7 || argc > 9)
    return UsageError("extract_features",
                      Concat("found ", argc - 1, " arguments where 6 to 8 were expected"));
  return RunTool("extract_features", nullptr, [&] { return Run(ArgumentsOf(argc, argv)); });
}
