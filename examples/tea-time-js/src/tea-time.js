// A discount on everything for those who know the code.

import * as config from 'souk:host/config@0.1.0';

const CODE = 'TEATIMEJS';

// The host writes this field wherever it stands, so that a plugin cannot speak
// for another.
const provider = '';

export const discount = {
  propose(cart) {
    if (!cart.codes.includes(CODE)) return [];
    if (cart.lines.length === 0) {
      const reason = 'Put something in the cart first.';
      return [{ tag: 'reject', val: { provider, code: CODE, reason } }];
    }
    // Settings come as JSON, checked by the host and with defaults filled in.
    const percent = JSON.parse(config.get('percent'));
    const portions = cart.lines.map(({ id, quantity }) => ({ lineId: id, quantity }));
    const proposal = {
      provider,
      id: CODE,
      title: `Tea time: ${percent} % off`,
      code: CODE,
      // In millionths, so that no fraction is ever lost to a float.
      effect: { tag: 'percent', val: [percent * 10_000, portions] },
      stacking: 'combines',
    };
    return [{ tag: 'propose', val: proposal }];
  },
};
