// A piece of a shop that talks to Talon.One: closes a cart, once, also over a bad line.
const { randomUUID } = require('node:crypto');

class Checkout {
  constructor(url, key) {
    this.url = url;
    this.key = key;
  }

  /** The discounts of a cart, and the coupons that were refused. Closing it is repeated once if the line breaks. */
  async close(cart, { profile, coupons = [], items }) {
    const body = JSON.stringify({
      customerSession: { profileId: profile, state: 'closed', couponCodes: coupons, cartItems: items },
    });
    const headers = {
      'Authorization': `ApiKey-v1 ${this.key}`,
      'Content-Type': 'application/json',
      'Idempotency-Key': randomUUID(), // the same for both attempts
    };
    const send = () => fetch(`${this.url}/v2/customer_sessions/${encodeURIComponent(cart)}`, { method: 'PUT', headers, body });
    const answer = await send().catch(send);
    if (!answer.ok) throw new Error(`Talon.One answers ${answer.status}`);
    const { effects } = await answer.json();
    const sum = (total, effect) => total + effect.props.value;
    return {
      discount: effects.filter((effect) => effect.effectType === 'setDiscount').reduce(sum, 0),
      refused: effects.filter((effect) => effect.effectType === 'rejectCoupon').map((effect) => effect.props.value),
    };
  }
}

module.exports = { Checkout };
