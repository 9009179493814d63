import { z } from 'zod';

/** Mean losses as files hold them. */
export const lossesShape = z.array(z.object({ step: z.number(), loss: z.number() }));

/** A `ValidationPoint` as files hold it. */
export const validationPointShape = z.object({
  step: z.number(),
  seconds: z.number(),
  averaged: z.boolean().optional(),
  loss: z.number(),
  hitAt10: z.number(),
  ndcgAt10: z.number(),
  users: z.number(),
});
