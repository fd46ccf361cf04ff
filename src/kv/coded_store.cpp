// Sealed pages as a codec makes them; raw ones in f16.

#include <utility>
#include <vector>

#include "kv/kv_store.h"

namespace adze::kv {
namespace {

constexpr kernels::PageType kRawType = kernels::PageType::kF16;

class CodedStore : public KvStore {
 public:
  CodedStore(std::string name,
             std::shared_ptr<const kernels::PageCodec> codec,
             const kernels::AttentionShape& shape)
      : KvStore(shape), name_(std::move(name)), codec_(std::move(codec)) {}

  std::string name() const override { return name_; }
  int64_t sealed_page_bytes() const override { return codec_->page_bytes(); }
  int64_t side_bytes() const override { return codec_->side_bytes(); }
  int64_t first_pages() const override { return codec_->first_pages(); }
  bool sealed_is_raw() const override { return false; }
  kernels::PageType raw_type() const override { return kRawType; }

 protected:
  kernels::PageType sealed_type() const override { return kernels::PageType::kCoded; }
  const kernels::PageCodec* codec() const override { return codec_.get(); }

  void make_side(PagePool& pool, SlotPages& slot) const override {
    slot.side = pool.allocate(side_bytes());
    std::vector<float> key;
    std::vector<float> value;
    read_raw({slot.raw.data(), static_cast<size_t>(first_pages())}, key, value);
    codec_->make_side(key.data(), value.data(), slot.side.data());
  }

  PageRef seal(PagePool& pool, SlotPages& slot, const PageRef& raw, int64_t page) const override {
    if (slot.side && slot.side.shared() && codec_->writes_side(page)) {
      slot.side = pool.copy(slot.side);
    }
    std::vector<float> key;
    std::vector<float> value;
    read_raw({&raw, 1}, key, value);
    PageRef sealed = pool.allocate(sealed_page_bytes());
    codec_->encode(
        key.data(), value.data(), page, slot.side ? slot.side.data() : nullptr, sealed.data());
    return sealed;
  }

  void read_sealed(const SlotPages& slot,
                   int64_t page,
                   int64_t kv_head,
                   float* key,
                   float* value) const override {
    const int64_t head_dim = shape().head_dim;
    const std::byte* bytes = slot.sealed[static_cast<size_t>(page)].data();
    const std::byte* side = slot.side ? slot.side.data() : nullptr;
    std::vector<float> tile(static_cast<size_t>(head_dim * kPageTokens));
    std::vector<float> coded(tile.size());
    codec_->decode_keys(bytes, page, side, kv_head, tile.data());
    if (codec_->changes_keys()) {
      coded.swap(tile);
      codec_->keys_from_basis(side, kv_head, coded.data(), tile.data());
    }
    for (int64_t token = 0; token < kPageTokens; ++token) {
      for (int64_t dim = 0; dim < head_dim; ++dim) {
        key[token * head_dim + dim] = tile[static_cast<size_t>(dim * kPageTokens + token)];
      }
    }
    codec_->decode_values(bytes, page, side, kv_head, value);
    if (codec_->changes_values()) {
      coded.assign(value, value + head_dim * kPageTokens);
      codec_->values_from_basis(side, kv_head, kPageTokens, coded.data(), value);
    }
  }

 private:
  // key, value [kv_heads, pages * 32, head_dim]
  void read_raw(std::span<const PageRef> pages,
                std::vector<float>& key,
                std::vector<float>& value) const {
    const auto tile = static_cast<size_t>(kPageTokens * shape().head_dim);
    key.resize(tile * pages.size() * static_cast<size_t>(shape().kv_heads));
    value.resize(key.size());
    for (int64_t head = 0; head < shape().kv_heads; ++head) {
      for (size_t page = 0; page < pages.size(); ++page) {
        const size_t place = (static_cast<size_t>(head) * pages.size() + page) * tile;
        kernels::read_page_head(shape(),
                                kRawType,
                                pages[page].data(),
                                head,
                                kPageTokens,
                                key.data() + place,
                                value.data() + place);
      }
    }
  }

  std::string name_;
  std::shared_ptr<const kernels::PageCodec> codec_;
};

}  // namespace

KvStorePtr make_coded_store(std::string name,
                            std::shared_ptr<const kernels::PageCodec> codec,
                            const kernels::AttentionShape& shape) {
  return std::make_shared<CodedStore>(std::move(name), std::move(codec), shape);
}

}  // namespace adze::kv
