// Floor 0. Files: whole reads, safe writes, protobuf messages as text and binary. Anyone may call it.
#pragma once

#include <functional>
#include <string>

#include <google/protobuf/message.h>

#include "crema/error.hpp"

namespace crema {

std::string ReadFile(const std::string& path);  // throws Error where it cannot
// Writes beside `path`, fsyncs and renames into place: the old file stays whole until the new one is. Throws
// Error (a full disk, say) and removes the partial file.
void WriteFile(const std::string& path, const std::string& bytes);
bool FileExists(const std::string& path);
void MakeDirectories(const std::string& path);

// Text format. An unknown field, a wrong type or a missing brace names file, line and column.
void ReadText(const std::string& path, google::protobuf::Message* message);
void ParseText(const std::string& text, const std::string& name, google::protobuf::Message* message);
std::string ToText(const google::protobuf::Message& message);
// Binary format, without protobuf's 64 MB limit.
void ReadBinary(const std::string& path, google::protobuf::Message* message);
void WriteBinary(const std::string& path, const google::protobuf::Message& message);

}  // namespace crema
