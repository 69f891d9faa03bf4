-- Every coupon use wrote a page and more of this index, and nothing looks for uses by their coupon.
DROP INDEX coupon_use_by_coupon;
