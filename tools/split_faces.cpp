// Splits a folder of images, one sub-folder for each person, by person: OUT_DIR/train.txt lists the images of
// the people to train on, OUT_DIR/pairs.txt pairs of images of people that are held out. Paths are below DIR.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>

#include "face_lists.hpp"
#include "tool.hpp"

DEFINE_double(test_fraction, 0.1, "Share of the people that are held out.");
DEFINE_int64(pairs, 3000, "Pairs to make of the people held out, half of them of one person.");
DEFINE_int64(seed, 0, "Key of what is drawn at random.");

namespace {

using namespace crema;
namespace fs = std::filesystem;

bool IsImage(const fs::path& path) {
  static const std::set<std::string> kKnown = {".jpg", ".jpeg", ".png",  ".bmp", ".ppm",
                                               ".pgm", ".tif",  ".tiff", ".webp"};
  std::string extension = path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return kKnown.count(extension) > 0;
}

std::vector<fs::path> Sorted(const fs::path& folder) {
  std::vector<fs::path> entries;
  for (const auto& entry : fs::directory_iterator(folder)) entries.push_back(entry.path());
  std::sort(entries.begin(), entries.end());
  return entries;
}

// Everyone with an image, by name.
People ReadPeople(const std::string& folder) {
  Require(fs::is_directory(folder), "there is no folder ", folder,
          "; expected one with a sub-folder for each person");
  People people;
  for (const fs::path& person : Sorted(folder)) {
    if (!fs::is_directory(person)) continue;
    std::vector<std::string> images;
    for (const fs::path& image : Sorted(person))
      if (IsImage(image) && fs::is_regular_file(image))
        images.push_back((person.filename() / image.filename()).string());
    if (!images.empty()) people.push_back(std::move(images));
  }
  Require(people.size() >= 3, "the folder ", folder, " has sub-folders with images of ", people.size(),
          " people; expected at least 3: one to train on and two to hold out");
  return people;
}

// Whether each person is held out. Only people with two images or more are, for there is no pair of the
// others.
std::vector<bool> HoldOut(const People& people, const std::string& folder) {
  std::vector<size_t> able;
  for (size_t who = 0; who < people.size(); ++who)
    if (people[who].size() >= 2) able.push_back(who);
  Require(able.size() >= 2, "of the ", people.size(), " people in ", folder, ", ", able.size(),
          " have two images or more; expected at least 2 to make pairs of");
  const int64_t wanted = std::llround(FLAGS_test_fraction * static_cast<double>(people.size()));
  const int64_t most = static_cast<int64_t>(std::min(able.size(), people.size() - 1));
  const int64_t count = std::clamp<int64_t>(wanted, 2, most);
  const Permutation order(MixBits(static_cast<uint64_t>(FLAGS_seed), NameKey("split")),
                          static_cast<int64_t>(able.size()));
  std::vector<bool> held(people.size());
  for (int64_t k = 0; k < count; ++k) held[able[static_cast<size_t>(order(k))]] = true;
  return held;
}

int Run(const std::string& folder, const std::string& out) {
  Require(FLAGS_test_fraction > 0 && FLAGS_test_fraction < 1, "--test_fraction is ", FLAGS_test_fraction,
          " where a share between 0 and 1 was expected");
  Require(FLAGS_pairs >= 2, "--pairs is ", FLAGS_pairs, " where at least 2 was expected");
  const People people = ReadPeople(folder);
  const std::vector<bool> held = HoldOut(people, folder);
  Require(!FileExists(out + "/train.txt"), "the folder ", out,
          " has a train.txt already; remove it or choose another folder");
  People train, test;
  size_t images = 0;
  for (size_t who = 0; who < people.size(); ++who) {
    (held[who] ? test : train).push_back(people[who]);
    if (!held[who]) images += people[who].size();
  }
  MakeDirectories(out);
  const int64_t pairs =
      WritePairList(out + "/pairs.txt", test, FLAGS_pairs, static_cast<uint64_t>(FLAGS_seed));
  WriteTrainList(out + "/train.txt", train);
  LOG(INFO) << "Split " << people.size() << " people: " << train.size() << " with " << images
            << " images to train on, " << test.size() << " in " << pairs << " pairs.";
  if (pairs < FLAGS_pairs / 2 * 2)
    LOG(WARNING) << "The people held out make no more than " << pairs << " pairs.";
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  StartTool(&argc, &argv, "split_faces [FLAGS] DIR OUT_DIR");
  if (argc != 3)
    return UsageError("split_faces",
                      Concat("found ", argc - 1, " arguments where two folders were expected"));
  return RunTool("split_faces", nullptr, [&] { return Run(argv[1], argv[2]); });
}
