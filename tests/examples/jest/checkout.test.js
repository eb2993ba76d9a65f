// SIMULATOR_URL and SIMULATOR_KEY come from the environment. A key `simulator-NAME` opens a world of its own, so this
// suite can run beside others.
const { Checkout } = require('./checkout');

const url = process.env.SIMULATOR_URL ?? 'http://127.0.0.1:9900';
const key = process.env.SIMULATOR_KEY ?? 'simulator-jest';
const world = `world=${key.replace(/^simulator-/, '')}`;
const shoes = { profile: 'jane', items: [{ sku: 'shoe', quantity: 2, price: 30 }] };

const control = (method, path, body) => fetch(`${url}/-/${path}`, { method, body: body && JSON.stringify(body) });

beforeEach(() => control('POST', `reset?${world}`));

test('a coupon takes its share off the cart', async () => {
  const { discount } = await new Checkout(url, key).close('cart-1', { ...shoes, coupons: ['WELCOME10'] });

  expect(discount).toBe(6);
});

test('a coupon that nobody knows is refused by name', async () => {
  const { refused } = await new Checkout(url, key).close('cart-1', { ...shoes, coupons: ['NOPE'] });

  expect(refused).toEqual(['NOPE']);
});

test('a cart is closed once, though the line breaks after Talon.One has closed it', async () => {
  await control('PUT', `faults?${world}`, ['reset-after-read,times=1']);

  const { discount } = await new Checkout(url, key).close('cart-1', { ...shoes, coupons: ['WELCOME10'] });

  expect(discount).toBe(6);
  const journal = await (await control('GET', `journal?${world}&session=cart-1`)).json();
  expect(journal.map((call) => call.outcome)).toEqual(['applied', 'replayed']);
});

test('an error of Talon.One is not taken for a discount of nothing', async () => {
  await control('PUT', `faults?${world}`, ['503']);

  await expect(new Checkout(url, key).close('cart-1', shoes)).rejects.toThrow('503');
});
