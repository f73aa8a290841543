#include "proxy/libpq_files.h"

#include <gtest/gtest.h>

#include <map>

namespace carpool::proxy {
namespace {

using Kind = LibpqFile::Kind;

class LibpqFilesTest : public testing::Test {
 protected:
  std::map<std::string, LibpqFile> needed() {
    const auto find = [](const std::map<std::string, std::string>& map, const std::string& name) {
      const auto found = map.find(name);
      return found == map.end() ? "" : found->second;
    };
    std::map<std::string, LibpqFile> files;
    for (const LibpqFile& file :
         files_needed(server_, {[&](const std::string& keyword) { return find(options_, keyword); },
                                only_sockets_, version_})) {
      files.emplace(file.keyword, file);
    }
    return files;
  }

  config::Server server_;
  std::map<std::string, std::string> options_;
  bool only_sockets_ = false;
  int version_ = 150'000;
};

TEST_F(LibpqFilesTest, LibpqsOwnOnesAreLookedForWhereNobodyNamesAny) {
  const auto files = needed();
  EXPECT_EQ(files.at("sslrootcert").path, "~/.postgresql/root.crt");
  EXPECT_EQ(files.at("sslcert").path, "~/.postgresql/postgresql.crt");
  EXPECT_EQ(files.at("sslkey").path, "~/.postgresql/postgresql.key");
  EXPECT_EQ(files.at("sslcrl").path, "~/.postgresql/root.crl");
  EXPECT_EQ(files.at("passfile").path, "~/.pgpass");
  for (const auto& [keyword, file] : files) EXPECT_TRUE(file.may_lack) << keyword;
}

TEST_F(LibpqFilesTest, AKeyOfOursComesBeforeTheUrl) {
  options_["sslrootcert"] = "/url";
  EXPECT_EQ(needed().at("sslrootcert").name, "sslrootcert of server.url /url");
  server_.ssl_root_cert = "/key";
  EXPECT_EQ(needed().at("sslrootcert").name, "server.sslRootCert /key");
  EXPECT_EQ(needed().at("sslrootcert").path, "/key");
  EXPECT_FALSE(needed().at("sslrootcert").may_lack);
  server_.ssl_key = "/private";
  EXPECT_EQ(needed().at("sslkey").kind, Kind::Key);
}

TEST_F(LibpqFilesTest, WithoutTlsNoneOfItIsNeeded) {
  options_["password"] = "secret";
  options_["sslmode"] = "disable";
  server_.ssl_root_cert = "/key";
  EXPECT_TRUE(needed().empty());
  options_["sslmode"] = "require";
  EXPECT_FALSE(needed().empty());
  only_sockets_ = true;
  EXPECT_TRUE(needed().empty());
}

TEST_F(LibpqFilesTest, APasswordFileIsReadAndNoPgpassWhereThereIsAPassword) {
  server_.password_file = "/password";
  EXPECT_EQ(needed().at("password").kind, Kind::Secret);
  EXPECT_FALSE(needed().contains("passfile"));
  server_.password_file.clear();
  options_["password"] = "secret";
  EXPECT_FALSE(needed().contains("password"));
  EXPECT_FALSE(needed().contains("passfile"));
  options_["password"] = "";
  options_["passfile"] = "/pgpass";
  EXPECT_EQ(needed().at("passfile").name, "passfile of server.url /pgpass");
}

TEST_F(LibpqFilesTest, WhatIsNoFileIsLeftToLibpq) {
  options_["sslkey"] = "pkcs11:id";
  EXPECT_FALSE(needed().contains("sslkey")) << "an engine's key";
  options_["sslrootcert"] = "system";
  EXPECT_EQ(needed().at("sslrootcert").path, "system") << "a file, for an older libpq";
  version_ = 160'000;
  EXPECT_FALSE(needed().contains("sslrootcert"));
}

TEST_F(LibpqFilesTest, AFolderOfRevocationsTakesThePlaceOfLibpqsOwnList) {
  options_["sslcrldir"] = "/crls";
  EXPECT_EQ(needed().at("sslcrldir").kind, Kind::CrlFolder);
  EXPECT_FALSE(needed().contains("sslcrl"));
  options_["sslcrl"] = "/list";
  EXPECT_EQ(needed().at("sslcrl").path, "/list");
}

}  // namespace
}  // namespace carpool::proxy
