// What the API answers, as far as the gallery uses it: see /api/v1/openapi.json.
export interface Asset {
  file: string;
  role: string;
  variant: string | null;
  sourceUrl: string | null;
  state: string;
  sha256: string | null;
  bytes: number | null;
  contentType: string | null;
  key: string | null;
  deduplicated: boolean;
  attempts: number;
  lastError: string | null;
  storedAt: string | null;
  links?: { content: string; public: string | null; presigned: string | null; expiresAt: string | null } | null;
}
export interface Job {
  jobId: string;
  kind: string;
  provider: string;
  replyRef: string | null;
  refId: string | null;
  labels?: Record<string, string>;
  state: string;
  outcome: string | null;
  statusLabel: string | null;
  percent: number | null;
  message: string | null;
  error: string | null;
  reason: string | null;
  prompt: string | null;
  model?: string;
  resolution?: string;
  aspectRatio?: string;
  duration?: number;
  callbacks: number;
  createdAt: string;
  updatedAt: string;
  archivedAt: string | null;
  manifestKey: string | null;
  assets: Asset[];
}
