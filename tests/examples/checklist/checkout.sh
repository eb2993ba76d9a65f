#!/bin/sh
# The smallest shop there is: two carts with a coupon. A careless one forgets to close them.
set -eu

call() {
  ${CURL:-curl} --silent --show-error --fail --output /dev/null --request PUT \
    --header 'Content-Type: application/json' --data "$2" "http://127.0.0.1:7410/v2/customer_sessions/$1"
}

for cart in cart-1 cart-2; do
  call "$cart" '{"customerSession": {"profileId": "jane", "couponCodes": ["WELCOME10"],
    "attributes": {"ShippingCity": "Berlin"}, "cartItems": [{"sku": "shoe", "quantity": 2, "price": 60}]}}'
  [ "$1" = careless ] || call "$cart" '{"customerSession": {"state": "closed"}}'
done
