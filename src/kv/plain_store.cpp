// Pages of one plain element type, raw and sealed.

#include <vector>

#include "kv/kv_store.h"

namespace adze::kv {
namespace {

class PlainStore : public KvStore {
 public:
  PlainStore(kernels::PageType raw, kernels::PageType sealed, const kernels::AttentionShape& shape)
      : KvStore(shape), raw_type_(raw), sealed_type_(sealed) {}

  std::string name() const override { return std::string(kernels::page_type_name(sealed_type_)); }
  int64_t sealed_page_bytes() const override {
    return kernels::attention_page_bytes(shape(), sealed_type_);
  }
  bool sealed_is_raw() const override { return raw_type_ == sealed_type_; }
  kernels::PageType raw_type() const override { return raw_type_; }

 protected:
  kernels::PageType sealed_type() const override { return sealed_type_; }
  PageRef seal(PagePool& pool,
               SlotPages& /*slot*/,
               const PageRef& raw,
               int64_t /*page*/) const override {
    if (sealed_is_raw()) {
      return raw;
    }
    PageRef sealed = pool.allocate(sealed_page_bytes());
    const auto width = static_cast<size_t>(shape().kv_heads * shape().head_dim);
    std::vector<float> key(width * kPageTokens);
    std::vector<float> value(key.size());
    for (size_t index = 0; index < kPageTokens; ++index) {
      kernels::read_page_token(shape(),
                               raw_type_,
                               raw.data(),
                               static_cast<int64_t>(index),
                               key.data() + index * width,
                               value.data() + index * width);
    }
    kernels::write_page_tokens(
        shape(), sealed_type_, key.data(), value.data(), 0, kPageTokens, sealed.data());
    return sealed;
  }

  void read_sealed(const SlotPages& slot,
                   int64_t page,
                   int64_t kv_head,
                   float* key,
                   float* value) const override {
    kernels::read_page_head(shape(),
                            sealed_type_,
                            slot.sealed[static_cast<size_t>(page)].data(),
                            kv_head,
                            kPageTokens,
                            key,
                            value);
  }

 private:
  kernels::PageType raw_type_;
  kernels::PageType sealed_type_;
};

}  // namespace

KvStorePtr make_plain_store(kernels::PageType type, const kernels::AttentionShape& shape) {
  return make_plain_store(type, type, shape);
}

KvStorePtr make_plain_store(kernels::PageType raw_type,
                            kernels::PageType sealed_type,
                            const kernels::AttentionShape& shape) {
  return std::make_shared<PlainStore>(raw_type, sealed_type, shape);
}

}  // namespace adze::kv
