export declare function findChromium(): string | null;
export interface Page {
  run<Result>(code: string, input?: Record<string, unknown>): Promise<Result>;
  readonly problems: readonly string[];
  close(): Promise<void>;
}
export declare function openPage(
  executablePath: string,
  options: { readonly mounts: Record<string, string>; readonly imports: Record<string, string> },
): Promise<Page>;
